"""AdaRound: choose for every weight whether it rounds up or down, so that each layer answers as the float layer did.

Layer by layer along the deployed graph: inputs are what the quantized network really feeds the layer, targets what the float
layer answered before its activation, both clipped to the range of the output's quantizer. Rounding and bias are optimised, step
sizes stay. No labels are used. Convolutions are looked at through a few thousand of their patches, which makes the cost
independent of the image size.
Helps when weights have few levels or one scale a tensor. Does not help where post-training quantization lost nothing.
Source: Nagel et al. 2020, arXiv:2004.10568 (stretched sigmoid, annealed penalty); settings as measured for this project.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from compress.context import Context, Skipped, tensors
from compress.files import publish
from compress.quantization import Parts, batch_of, finish, parts, recipe_of
from compress.schedule import seed_for
from rules.examples import Feeds

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from compress.graph.module import GraphModule
    from compress.graph.reading import Node

LOW, HIGH = -0.1, 1.1  # the stretched sigmoid of the paper
BETA = (20.0, 2.0)  # sharpness of the penalty, annealed
WARM = 0.2  # share of the iterations without the penalty
ROWS = 1024  # patches in one iteration
BATCH = 32
MEMORY = 256 * 2**20  # bytes of inputs held


@dataclass(frozen=True, slots=True)
class AdaRound:
    """Settings of the stage."""

    samples: int = 512  # unlabelled training inputs
    patches: int = 8192  # rows a layer is judged by, drawn from all samples
    iterations: int = 200  # of each layer
    lr: float = 2e-2  # of the rounding
    lr_bias: float = 1e-3  # of the bias, relative to the layer's output
    penalty: float = 1e-2
    when: Literal["needed", "always"] = "always"  # needed: only where quantization lost more than max_loss
    max_loss: float = 0.002  # of the metric, a fraction

    def __post_init__(self) -> None:
        for key in ("samples", "patches", "iterations"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} is {getattr(self, key)!r}, it must be at least 1")

    def apply(self, graph: Path, context: Context) -> Path:
        """Repair the rounding of a quantized file; writes its three files into the context's folder and returns the shipped one."""
        from compress.forward import reproducible
        from compress.graph.module import load
        from compress.graph.writing import write

        given, made = parts(graph), Parts(context.folder)
        with reproducible(context.threads):
            module = load(given.static, floats=given.float, levels=context.target.weight_levels, reduced=context.target.reduce_range)
            layers = list(layers_of(module, load(given.float)))
            if not layers:
                raise Skipped("no convolution or matrix product of this graph has constant quantized weights")
            self._repair(module, layers, given, context)
            publish(made.float, lambda part: part.write_bytes(given.float.read_bytes()))
            write(module, given.static, made.static)
        return finish(made.static, made.shipped, recipe=recipe_of(given), format=context.target)

    def _repair(self, module: GraphModule, layers: Sequence[Layer], given: Parts, context: Context) -> None:
        from compress.graph.module import load

        feeds = self._feeds(context)
        per = max(1, self.patches // max(1, sum(len(next(iter(feed.values()))) for feed in feeds)))
        wanted = self._targets(load(given.float), layers, feeds, per, context.seed)
        context.progress.start("adaround", len(layers))
        for number, layer in enumerate(layers):
            rows = _gather(module, layer, layer.node.inputs[0], feeds, per, context.seed)
            improved = self._fit(module, layer, rows, wanted.pop(layer.node.name), seed=seed_for(context.seed, "adaround", number))
            context.progress.step(number + 1, f"{layer.node.name}: error ×{improved:.2f}")
        context.progress.finish()

    def _feeds(self, context: Context) -> list[Feeds]:
        """The samples in equally shaped batches, as many as fit the memory set aside for them."""
        found: list[Feeds] = []
        room = MEMORY
        for batch in context.data.batches(
            "train", batch_size=batch_of(context.data, BATCH), seed=context.seed, shuffle=True, limit=self.samples
        ):
            room -= sum(array.nbytes for array in batch.inputs.values())
            if room < 0 and found:
                break
            found.append(dict(batch.inputs))
        return found

    def _targets(self, floats: GraphModule, layers: Sequence[Layer], feeds: Sequence[Feeds], per: int, seed: int) -> dict[str, Tensor]:
        """What every float layer answers at the chosen places: {node name: (rows, groups, outputs)}."""
        import torch

        found: dict[str, list[Tensor]] = {layer.node.name: [] for layer in layers}
        for number, feed in enumerate(feeds):
            with torch.no_grad():
                answers = floats(tensors(feed), until={layer.output for layer in layers})
            for layer in layers:
                found[layer.node.name].append(_answers(layer, answers[layer.output], per, seed_for(seed, layer.node.name, number)))
        return {name: torch.cat(rows) for name, rows in found.items()}

    def _fit(self, module: GraphModule, layer: Layer, rows: Tensor, wanted: Tensor, *, seed: int) -> float:
        """Optimise one layer's rounding and bias, and put them into the module where they are better. Returns error after / before."""
        import torch

        weight, step, (low, high) = layer.weight(module)
        clip = layer.clip(module)
        wanted = wanted.clamp(*clip)
        power = float(wanted.square().mean()) or 1.0
        floor = torch.floor(weight / step)
        choice = torch.logit((weight / step - floor - LOW) / (HIGH - LOW)).requires_grad_()  # starts as the float weight
        shift = torch.zeros(wanted.shape[1:]).requires_grad_()
        offset = layer.bias(module, wanted)
        groups = [{"params": [choice], "lr": self.lr}, {"params": [shift], "lr": self.lr_bias if layer.has_bias else 0.0}]
        optimizer = torch.optim.Adam(groups)
        generator = torch.Generator().manual_seed(seed)

        def error(levels: Tensor, moved: Tensor, pick: Tensor) -> Tensor:
            answer = torch.einsum("pgk,gok->pgo", rows[pick], levels.clamp(low, high) * step) + offset + moved * power**0.5
            wrong: Tensor = (answer.clamp(*clip) - wanted[pick]).square().sum((1, 2)).mean() / power
            return wrong

        for iteration in range(self.iterations):
            pick = torch.randint(0, len(rows), (min(ROWS, len(rows)),), generator=generator)
            up = (torch.sigmoid(choice) * (HIGH - LOW) + LOW).clamp(0, 1)
            loss = error(floor + up, shift, pick) + self._penalty(up, iteration)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with torch.no_grad():
            everything = torch.arange(len(rows))
            plain = torch.round(weight / step)
            chosen = floor + (choice >= 0).to(floor.dtype)  # where the stretched sigmoid is one half
            before, after = (float(error(levels, moved, everything)) for levels, moved in ((plain, shift * 0), (chosen, shift)))
            if after >= before:
                return 1.0
            layer.put(module, chosen.clamp(low, high) * step, shift * power**0.5)
        return after / before if before else 1.0

    def _penalty(self, up: Tensor, iteration: int) -> Tensor | float:
        """Pushes every choice towards 0 or 1, gently at first."""
        share = (iteration / self.iterations - WARM) / (1 - WARM)
        if share < 0:
            return 0.0
        beta = BETA[0] + (BETA[1] - BETA[0]) * share
        return self.penalty * (1 - (2 * up - 1).abs().pow(beta)).sum()


# -- layers as matrix products ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Layer:
    """A product with quantized weights in the static graph, and the tensor the float graph's same node makes."""

    node: Node
    output: str  # in the float graph, before any activation
    groups: int
    transposed: bool  # weights stored (inputs, outputs)

    @property
    def has_bias(self) -> bool:
        return len(self.node.inputs) > 2 and bool(self.node.inputs[2])

    def weight(self, module: GraphModule) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """Float weights (groups, outputs, inputs), their step sizes in a shape that broadcasts, their lowest and highest level."""
        import torch

        name = self.node.inputs[1]
        described = module.graph.weights[name]
        value = module.tensors[module.places[name]].detach()
        step = module.all_steps()[described.scale].detach()
        steps = torch.ones_like(value) * (
            step.reshape([-1 if a == (described.axis or 0) % value.dim() else 1 for a in range(value.dim())]) if step.dim() else step
        )
        return self._arranged(value), self._arranged(steps), module.weight_bounds(described)

    def _arranged(self, value: Tensor) -> Tensor:
        value = value.t() if self.transposed else value.flatten(1)
        return value.reshape(self.groups, -1, value.shape[-1])

    def bias(self, module: GraphModule, like: Tensor) -> Tensor | float:
        """The bias as (groups, outputs), or 0."""
        if not self.has_bias:
            return 0.0
        place = module.places.get(self.node.inputs[2])
        value = module.fixed[self.node.inputs[2]] if place is None else module.tensors[place].detach()
        return value.reshape(like.shape[1:])

    def clip(self, module: GraphModule) -> tuple[float, float]:
        """The range of the quantizer that reads this layer's output; unlimited where there is none."""
        readers = module.graph.readers().get(self.node.outputs[0], [])
        quantizer = next((reader for reader in readers if reader.op == "QuantizeLinear"), None)
        if quantizer is None or len(readers) > 1:
            return -float("inf"), float("inf")
        step = float(module.all_steps()[quantizer.inputs[1]].detach().max())
        low, high = module.activation_bounds(quantizer)
        return low * step, high * step

    def put(self, module: GraphModule, weight: Tensor, shift: Tensor) -> None:
        """The new weights and the shift of the bias, into the module."""
        place = module.tensors[module.places[self.node.inputs[1]]]
        flat = weight.reshape(-1, weight.shape[-1])
        place.data.copy_((flat.t() if self.transposed else flat).reshape(place.shape))
        if self.has_bias and self.node.inputs[2] in module.places:
            bias = module.tensors[module.places[self.node.inputs[2]]]
            bias.data.add_(shift.reshape(bias.shape))


def layers_of(module: GraphModule, floats: GraphModule) -> Iterator[Layer]:
    """The products that can be repaired, in the order of the graph."""
    answers = {node.name: node for node in floats.graph.nodes if node.name}
    for node in module.graph.nodes:
        twin = answers.get(node.name)
        if node.op not in ("Conv", "Gemm", "MatMul") or twin is None or twin.op != node.op or node.inputs[1] not in module.graph.weights:
            continue
        rank = module.tensors[module.places[node.inputs[1]]].dim()
        given: Mapping[str, object] = node.attributes
        if node.op == "Conv" and rank in (3, 4):
            yield Layer(node, twin.outputs[0], int(node.attributes.get("group", 1)), transposed=False)
        elif node.op == "MatMul" and rank == 2:
            yield Layer(node, twin.outputs[0], 1, transposed=True)
        elif node.op == "Gemm" and not given.get("transA") and given.get("alpha", 1.0) == 1.0 and given.get("beta", 1.0) == 1.0:
            yield Layer(node, twin.outputs[0], 1, transposed=not given.get("transB"))


def _gather(module: GraphModule, layer: Layer, name: str, feeds: Sequence[Feeds], per: int, seed: int) -> Tensor:
    """What the quantized graph feeds the layer at the chosen places: (rows, groups, inputs)."""
    import torch

    found = []
    for number, feed in enumerate(feeds):
        with torch.no_grad():
            value = module(tensors(feed), until={name})[name]
        found.append(_patches(layer, module, value, per, seed_for(seed, layer.node.name, number)))
    return torch.cat(found)


def _patches(layer: Layer, module: GraphModule, x: Tensor, per: int, seed: int) -> Tensor:
    """Rows of the layer's input as its product sees them, at `per` places of each example."""
    import torch.nn.functional as F

    from compress.graph.operators import padded

    if layer.node.op != "Conv":
        return _chosen(x.reshape(x.shape[0], -1, x.shape[-1]), per, seed).unsqueeze(1)
    weight = module.tensors[module.places[layer.node.inputs[1]]]
    x, strides, dilations = padded(layer.node.attributes, x, weight.shape[2:])
    kernel = list(weight.shape[2:])
    if len(kernel) == 1:
        x, kernel, strides, dilations = x.unsqueeze(2), [1, *kernel], [1, *strides], [1, *dilations]
    columns = F.unfold(x, tuple(kernel), dilation=tuple(dilations), stride=tuple(strides)).transpose(1, 2)  # (b, places, c · kernel)
    rows = _chosen(columns, per, seed)
    return rows.reshape(len(rows), layer.groups, -1)


def _answers(layer: Layer, y: Tensor, per: int, seed: int) -> Tensor:
    """The layer's answers at the same places."""
    if layer.node.op == "Conv":
        rows = _chosen(y.flatten(2).transpose(1, 2), per, seed)
    else:
        rows = _chosen(y.reshape(y.shape[0], -1, y.shape[-1]), per, seed)
    return rows.reshape(len(rows), layer.groups, -1)


def _chosen(places: Tensor, per: int, seed: int) -> Tensor:
    """`per` places of each example, the same for the same seed and number of places: (b, places, k) → (b · per, k)."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(0, places.shape[1], (places.shape[0], per), generator=generator)
    picked: torch.Tensor = places.gather(1, index.unsqueeze(-1).expand(-1, -1, places.shape[2]))
    return picked.flatten(0, 1)
