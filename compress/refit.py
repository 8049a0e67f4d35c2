"""Fit a freshly built module to stored weights of other sizes, so that a pruned net is a spec and a file of numbers, not a pickle.

Pruning changes how many channels a layer has, never which layers there are. So the shapes in the file say all: each layer
gets the sizes its weights have, then everything is loaded strictly. Groups of a convolution follow from
weight (out, in / groups, …): a depthwise one keeps one input channel a group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rules.problems import Problem, bad_input

if TYPE_CHECKING:
    from torch import Tensor, nn

State = Mapping[str, "Tensor"]


def refit(module: nn.Module, state: State) -> nn.Module:
    """Resize the layers of `module` to the shapes in `state`, then load it strictly. In place; returns `module`.

    Raises Problem (exit 3) naming the tensor that is missing, unknown, or of a shape its layer cannot take.
    """
    _check_names(module, state)
    for path, layer in list(module.named_modules()):
        resize = _resizer(layer)
        if resize is not None:
            prefix = f"{path}." if path else ""
            own = {key.removeprefix(prefix): value for key, value in state.items() if key.rpartition(".")[0] == path}
            if own and any(own[key].shape != held.shape for key, held in layer.state_dict().items() if key in own):
                _apply(resize, layer, own, path)
    _check_shapes(module, state)
    module.load_state_dict(dict(state), strict=True)
    return module


def _apply(resize: Callable[[Any, State], None], layer: nn.Module, own: State, path: str) -> None:
    for key, value in own.items():
        if value.ndim != layer.state_dict()[key].ndim or 0 in value.shape:
            raise _misfit(f"{path}.{key}", value, layer.state_dict()[key])
    try:
        resize(layer, own)
    except ValueError as error:
        raise bad_input(f"{path or type(layer).__name__}: {error}", remedy="they belong to another model") from error
    for key, value in own.items():
        held = getattr(layer, key)
        if held.shape != value.shape:
            _replace(layer, key, value)


def _replace(layer: nn.Module, key: str, value: Tensor) -> None:
    """Give `layer` an uninitialised parameter or buffer of the shape of `value`, of the type it had."""
    import torch
    from torch import nn

    held = getattr(layer, key)
    empty = torch.empty(value.shape, dtype=held.dtype, device=held.device)
    setattr(layer, key, nn.Parameter(empty, requires_grad=held.requires_grad) if isinstance(held, nn.Parameter) else empty)


def _resizer(layer: nn.Module) -> Callable[[Any, State], None] | None:
    """How the sizes of this kind of layer follow from its weights; None where it has none of its own."""
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

    table: list[tuple[Any, Callable[[Any, State], None]]] = [
        (_ConvTransposeNd, _transposed),
        (_ConvNd, _convolution),
        (nn.Linear, _linear),
        (_BatchNorm, _batch_norm),
        (nn.GroupNorm, _group_norm),
        ((nn.LayerNorm, nn.RMSNorm), _layer_norm),
        (nn.Embedding, _embedding),
        (nn.RNNBase, _recurrent),
    ]
    return next((resize for kind, resize in table if isinstance(layer, kind)), None)


def _convolution(layer: Any, own: State) -> None:
    outside, inside = own["weight"].shape[:2]
    _same(layer.weight.shape[2:], own["weight"].shape[2:], "kernel size")
    if layer.groups > 1 and layer.groups == layer.in_channels:  # depthwise: a multiplier stays a multiplier
        layer.groups = outside // (layer.out_channels // layer.groups)
    layer.in_channels, layer.out_channels = inside * layer.groups, outside
    _divides(layer)


def _transposed(layer: Any, own: State) -> None:
    inside, outside = own["weight"].shape[:2]
    _same(layer.weight.shape[2:], own["weight"].shape[2:], "kernel size")
    if layer.groups > 1 and layer.groups == layer.in_channels:
        layer.groups = inside
    layer.in_channels, layer.out_channels = inside, outside * layer.groups
    _divides(layer)


def _divides(layer: Any) -> None:
    if layer.groups < 1 or layer.in_channels % layer.groups or layer.out_channels % layer.groups:
        raise ValueError(f"{layer.out_channels} channels in {layer.groups} groups")


def _linear(layer: Any, own: State) -> None:
    layer.out_features, layer.in_features = own["weight"].shape


def _batch_norm(layer: Any, own: State) -> None:
    layer.num_features = next(own[key].shape[0] for key in ("weight", "running_mean") if key in own)


def _group_norm(layer: Any, own: State) -> None:
    each = layer.num_channels // layer.num_groups
    layer.num_channels = own["weight"].shape[0]
    if layer.num_channels % layer.num_groups:
        if layer.num_channels % each:
            raise ValueError(f"{layer.num_channels} channels in groups of {each}")
        layer.num_groups = layer.num_channels // each


def _layer_norm(layer: Any, own: State) -> None:
    layer.normalized_shape = tuple(own["weight"].shape)


def _embedding(layer: Any, own: State) -> None:
    layer.num_embeddings, layer.embedding_dim = own["weight"].shape
    if layer.padding_idx is not None and layer.padding_idx >= layer.num_embeddings:
        raise ValueError(f"padding index {layer.padding_idx} of {layer.num_embeddings} rows")


def _recurrent(layer: Any, own: State) -> None:
    gates = layer.weight_ih_l0.shape[0] // layer.hidden_size
    directions = 2 if layer.bidirectional else 1
    hidden = own["weight_hh_l0"].shape[1]
    if layer.proj_size:
        raise ValueError("a recurrent layer with a projection cannot be resized")
    for key, value in own.items():
        kind, level = key.split("_")[:2], int(key.split("_l")[1].removesuffix("_reverse"))
        inside = own["weight_ih_l0"].shape[1] if level == 0 else hidden * directions
        expected = (gates * hidden,) if kind[0] == "bias" else (gates * hidden, hidden if kind[1] == "hh" else inside)
        _same(expected, tuple(value.shape), f"shape of {key}")
    layer.input_size, layer.hidden_size = own["weight_ih_l0"].shape[1], hidden
    for key, value in own.items():  # assigning a weight refreshes the flat list the kernels read
        if getattr(layer, key).shape != value.shape:
            _replace(layer, key, value)


def _same(expected: Any, got: Any, what: str) -> None:
    if tuple(expected) != tuple(got):
        raise ValueError(f"{what} is {tuple(got)}, expected {tuple(expected)}")


# -- what does not fit ---------------------------------------------------------------------------------------------------


def _check_names(module: nn.Module, state: State) -> None:
    known = module.state_dict().keys()
    missing, strange = sorted(known - state.keys()), sorted(state.keys() - known)
    if missing or strange:
        which = f"lack {missing[0]!r}" if missing else f"have {strange[0]!r}, which the model does not"
        more = len(missing) + len(strange) - 1
        raise bad_input(f"the weights {which}" + (f" (and {more} more)" if more else ""), remedy="they belong to another model")


def _check_shapes(module: nn.Module, state: State) -> None:
    for key, held in module.state_dict().items():
        if held.shape != state[key].shape:
            raise _misfit(key, state[key], held)


def _misfit(key: str, value: Tensor, held: Tensor) -> Problem:
    return bad_input(
        f"{key!r} has shape {tuple(value.shape)}, its layer {tuple(held.shape)}, and it cannot be resized",
        remedy="these weights were saved from another model",
    )
