"""Where a net with attention looked: its own weights, layer by layer, as a heat map over the picture.

Idea: every call of scaled dot-product attention is watched while the net answers, and its weights are worked out beside it; the net is
not changed. Layers are joined by rollout: what a place attends to in one layer, followed through what that attended to in the layers
before, skip connections counted as half.
Source: rollout, Abnar & Zuidema 2020, arXiv:2005.00928. The caveat that belongs to every such map: other weights can give the same
answer, Jain & Wallace 2019, arXiv:1902.10186; Wiegreffe & Pinter 2019, arXiv:1908.04626.
Shape: inputs of a batch of one → weights (heads, queries, keys) a call → rollout (queries, keys) → heat (h, w) in 0 to 1. Needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from advisor import gradcam
from advisor.data import pictures
from rules.examples import Explanation, Feeds, Sample, Seen
from rules.problems import Problem

if TYPE_CHECKING:
    from torch import Tensor, nn

PICTURES = 6  # of a report
STEPS = 12  # characters of a line that are shown
TITLE = "Attention: where it looked"
CAVEAT = "It shows where the net looked, not why it answered: other weights can give the same answer, and a place that is looked at need not matter. Use it beside a method that tests what an answer hangs on."
OWN = "A step's own place, which comes to it over skip connections without being looked at, is left out."
SOURCE = "Abnar & Zuidema 2020, arXiv:2005.00928; Jain & Wallace 2019, arXiv:1902.10186"
Weights = NDArray[np.float32]


def watched(model: nn.Module, inputs: Feeds) -> tuple[list[Weights], NDArray[np.float32]]:
    """The weights (heads, queries, keys) of every attention in the order of the calls, and the output, of a batch of one."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention
    from torch.overrides import TorchFunctionMode

    found: list[Weights] = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
            if function is scaled_dot_product_attention:
                found.append(_weights(*args, **(kwargs or {}))[0].numpy())
            return function(*args, **(kwargs or {}))

    was = model.training
    model.eval()
    try:
        with torch.inference_mode(), Watch():
            output = model(*(torch.from_numpy(np.ascontiguousarray(value)) for value in inputs.values()))
    finally:
        model.train(was)
    return found, (output[0] if isinstance(output, tuple) else output).float().numpy()


def _weights(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """What scaled dot-product attention weighs `value` with, (b, heads, queries, keys), after the definition in torch's documentation."""
    import torch

    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    scores = (query @ key.transpose(-2, -1)).float() * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return scores.softmax(-1)


def rollout(layers: Sequence[Weights]) -> NDArray[np.float32]:
    """Layers (heads, n, n) over the same n places → (n, n): how much each place, at the end, comes from each, at the beginning."""
    joined = np.eye(layers[0].shape[-1], dtype=np.float32)
    for layer in layers:
        joined = (0.5 * layer.mean(0) + 0.5 * np.eye(layer.shape[-1], dtype=np.float32)) @ joined
    return np.asarray(joined / joined.sum(-1, keepdims=True), dtype=np.float32)


def patches(layers: Sequence[Weights]) -> NDArray[np.float32]:
    """What a vision Transformer's answer comes from, (h, w): of its class token, or of all patches where there is none.

    Raises Problem (exit 2) where the places are no square.
    """
    count = layers[-1].shape[-1]
    side = math.isqrt(count)
    extra = count - side * side
    if extra > 2 or layers[-1].shape[-2] != count:
        raise Problem(f"its attention is over {count} places, which are no square of patches")
    joined = rollout([layer for layer in layers if layer.shape[-2:] == (count, count)])
    row = joined[0, extra:] if extra else joined.mean(0)
    return _bright(row.reshape(side, side))


def columns(layers: Sequence[Weights], steps: int) -> NDArray[np.float32]:
    """What each step of a line comes from, (steps, rows, steps): of its last layers, whose places are rows of `steps` columns.

    Raises Problem (exit 2) where the places are something else.
    """
    count = layers[-1].shape[-1]
    if count % steps or layers[-1].shape[-2] != count:
        raise Problem(f"its attention is over {count} places, which are no columns of {steps} steps")
    alike = [layer for layer in layers if layer.shape[-2:] == (count, count)]
    joined = rollout(alike) - 0.5 ** len(alike) * np.eye(count, dtype=np.float32)  # what came over skip connections alone was not looked at
    rows = count // steps
    return np.stack([_bright(one) for one in joined.reshape(rows, steps, rows, steps).mean(0)])


def _bright(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """From 0, at the darkest, to 1."""
    low, high = float(heat.min()), float(heat.max())
    return np.asarray((heat - low) / max(high - low, 1e-12), dtype=np.float32)


def of_pictures(model: nn.Module, samples: Sequence[Sample], labels: Sequence[str]) -> Explanation:
    """Where a classifier of pictures looked. Raises Problem (exit 2) for a net without attention over patches."""
    shown = [_picture(model, sample, labels) for sample in samples[:PICTURES]]

    def heat(image: NDArray[np.float32], _: int) -> NDArray[np.float32]:
        small = patches(_attentive(model, {"image": image})[0])
        return np.kron(small, np.ones((-(-image.shape[2] // len(small)),) * 2, np.float32))[: image.shape[2], : image.shape[3]]

    return Explanation(TITLE, CAVEAT, SOURCE, tuple(shown), (gradcam.measured(model, samples, heat),))


def _picture(model: nn.Module, sample: Sample, labels: Sequence[str]) -> Seen:
    layers, logits = _attentive(model, sample.inputs)
    picture = pictures.square(pictures.decode(sample.raw, name=sample.name), gradcam.SHOWN)
    shown = np.concatenate([picture, gradcam.overlay(picture, patches(layers))], axis=1)
    return Seen(sample.name, f"says {labels[int(logits[0].argmax())]}; it is {sample.truth}", pictures.png(shown))


def of_lines(model: nn.Module, samples: Sequence[Sample], labels: Sequence[str]) -> Explanation:
    """Where a reader of text lines looked for each character that it spelt. Raises Problem (exit 2) for a net without such attention."""
    seen = tuple(_line(model, sample, labels) for sample in samples[:PICTURES])
    return Explanation(TITLE, f"{CAVEAT} {OWN}", SOURCE, seen, (_read_otherwise(model, samples),))


def _read_otherwise(model: nn.Module, samples: Sequence[Sample]) -> str:
    """How many readings change when the fifth of a line that was looked at most is greyed out, beside a random fifth of its columns."""
    changed = np.zeros(2, dtype=int)
    for index, sample in enumerate(samples):
        image = sample.inputs["image"]
        layers, logits = _attentive(model, sample.inputs)
        looked = columns(layers, logits.shape[1]).sum((0, 1))
        chance = np.random.default_rng([index, 5]).permutation(len(looked))
        for place, order in enumerate((np.argsort(-looked, kind="stable"), chance)):
            hidden = np.zeros(len(looked), dtype=bool)
            hidden[order[: round(gradcam.HIDDEN * len(looked))]] = True
            wide = np.repeat(hidden, image.shape[3] // len(looked))
            grey = np.where(wide, image.mean(), image).astype(np.float32)
            changed[place] += _spelt(watched(model, {"image": grey})[1][0]) != _spelt(logits[0])
    return (
        f"Greying out the fifth of a line that was looked at most changed {changed[0]} of {len(samples)} readings, "
        f"a random fifth of its columns {changed[1]}."
    )


def _spelt(logits: NDArray[np.float32]) -> list[int]:
    """The classes that are read, (t, classes) → in order, the blank 0."""
    best = logits.argmax(-1).tolist()
    return [place for step, place in enumerate(best) if place and (step == 0 or best[step - 1] != place)]


def _line(model: nn.Module, sample: Sample, labels: Sequence[str]) -> Seen:
    layers, logits = _attentive(model, sample.inputs)
    heats, best = columns(layers, logits.shape[1]), logits[0].argmax(-1)
    steps = [step for step, place in enumerate(best) if place and (step == 0 or best[step - 1] != place)][:STEPS]
    grey = np.round((sample.inputs["image"][0, 0] + 1) * 127.5).astype(np.uint8)
    line = np.repeat(grey[:, :, None], 3, axis=2)
    read = " ".join(labels[best[step] - 1] for step in steps)
    words = f"row by row: the line, then where it looked to write {read}" if read else "it reads nothing here"
    return Seen(sample.name, words, pictures.png(np.concatenate([line, *(gradcam.overlay(line, heats[step]) for step in steps)])))


def _attentive(model: nn.Module, inputs: Feeds) -> tuple[list[Weights], NDArray[np.float32]]:
    layers, logits = watched(model, inputs)
    if not layers:
        raise Problem("this net has no attention to look at", remedy="Grad-CAM shows where a convolutional one looked")
    return layers, logits
