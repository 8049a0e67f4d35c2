"""Which channels of a module live and die together, and how to cut them.

A channel is made by some layers, passed on by others and read by more: through additions, concatenations, normalisations and
recurrent states. Torch-Pruning traces these couplings, with recurrent layers of our own (`hidden.py`).
A coupling that the trace got wrong (a view that shuffles channels, a constant size in `forward`) is caught by the dead-channel
test: silence what reads the channels, cut them, and the outputs must not move. A group that fails is refused, with the reason.
Source: Fang et al. 2023, "DepGraph", arXiv:2301.12900.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch_pruning.dependency.group import Group as BasicGroup
from torch_pruning.pruner.function import BasePruningFunc, PrunerBox

from compress.hidden import CELLS, RECURRENT, as_nodes, parts

ROOTS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.Linear, nn.LSTM, nn.GRU, nn.RNN)
FOLLOWED = 4  # couplings of one group, times the layers there are: a net that cuts channels apart and joins them again has no end of them
EXACT = 1e-6  # largest move of the outputs in the dead-channel test (in float64), relative to how far they move with the input

Inputs = tuple[Tensor, ...]
Field = Callable[[Tensor], Tensor]  # a parameter's values, or its gradient, or their product


@dataclass(frozen=True, slots=True)
class Cut:
    """One side of one module. `index[u]` are its channels that belong to unit `u` of the group."""

    module: str
    side: Literal["out", "in"]
    index: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Units that can be removed one by one, everywhere they are felt. Named after the first layer that makes them."""

    name: str
    recurrent: bool
    cuts: tuple[Cut, ...]

    @property
    def width(self) -> int:
        return len(self.cuts[0].index)


# -- finding -------------------------------------------------------------------------------------------------------------


def find(model: nn.Module, inputs: Inputs) -> tuple[list[Group], dict[str, str]]:
    """The groups of a module, and the layers that cannot be cut with the reason. Groups that reach an output are left out.

    Raises ValueError where the module cannot be traced at all.
    """
    copy = deepcopy(model).eval().requires_grad_(True)
    try:
        graph = _trace(copy, inputs)
    except Exception as error:  # the tracer fails in as many ways as there are modules
        raise ValueError(f"the couplings of {type(model).__name__} cannot be traced: {type(error).__name__}: {error}") from error
    names = {module: name for name, module in copy.named_modules()}
    found: list[Group] = []
    refused: dict[str, str] = {}
    covered: set[str] = set()
    for root in [module for module in graph.module2node if isinstance(module, ROOTS)]:
        name = names[root]
        if name in covered:
            continue
        try:
            group = _group(graph, root, names)
        except Exception as error:
            refused[name] = str(error) or type(error).__name__
            continue
        if group is not None:
            found.append(group)
            covered |= {cut.module for cut in group.cuts if cut.side == "out"}
    return found, refused


def _trace(model: nn.Module, inputs: Inputs) -> tp.DependencyGraph:
    with as_nodes(model), torch.enable_grad():
        return tp.DependencyGraph().build_dependency(
            model, example_inputs=inputs, customized_pruners=dict.fromkeys(CELLS, RECURRENT), unwrapped_parameters=[], verbose=False
        )


def _group(graph: tp.DependencyGraph, root: nn.Module, names: Mapping[nn.Module, str]) -> Group | None:
    """The group whose first maker is `root`; None where it is what the model puts out."""
    pruner = graph.get_pruner_of_module(root)
    with _followed(FOLLOWED * len(graph.module2node)):
        items = list(graph.get_pruning_group(root, pruner.prune_out_channels, list(range(pruner.get_out_channels(root)))))
    if any(type(item.dep.target.module).__name__ == "_OutputOp" for item in items):
        return None
    links: list[tuple[str, str, dict[int, int]]] = []  # module, side, channel -> root channel
    for item in items:
        module = item.dep.target.module
        if isinstance(module, nn.Parameter):
            raise ValueError("its channels meet a parameter that belongs to no layer")
        if module in names:
            if any(index is None for index in item.root_idxs):
                raise ValueError("its channels are repeated in a way that is not followed")
            side = "out" if graph.is_out_channel_pruning_fn(item.dep.handler) else "in"
            links.append((names[module], side, dict(zip(item.idxs, item.root_idxs, strict=True))))
    modules = {name: module for module, name in names.items()}
    units = _units(links, modules, pruner.get_out_channels(root))
    cuts = tuple(Cut(name, side, _by_unit(channels, units)) for name, side, channels in links)  # type: ignore[arg-type]
    return Group(names[root], any(isinstance(modules[cut.module], nn.RNNBase) and cut.side == "out" for cut in cuts), cuts)


@contextmanager
def _followed(most: int) -> Iterator[None]:
    """Let Torch-Pruning follow at most so many couplings of a group. Raises ValueError beyond: it would not come to an end."""
    known, count = BasicGroup.add_dep, 0

    def add(self: Any, dep: Any, idxs: Any) -> None:
        nonlocal count
        count += 1
        if count > most:
            raise ValueError("its channels are cut apart and joined again in more ways than are followed")
        known(self, dep, idxs)

    BasicGroup.add_dep = add
    try:
        yield
    finally:
        BasicGroup.add_dep = known


def _units(links: Sequence[tuple[str, str, dict[int, int]]], modules: Mapping[str, nn.Module], count: int) -> list[set[int]]:
    """Root channels that can only be removed together: the directions of a layer, the same place in every convolution group."""
    parent = list(range(count))

    def top(channel: int) -> int:
        while parent[channel] != channel:
            channel = parent[channel]
        return channel

    for name, side, channels in links:
        period = _period(modules[name], side)
        first: dict[int, int] = {}
        for channel, root in channels.items() if period else ():
            a, b = top(first.setdefault(channel % period, root)), top(root)
            parent[max(a, b)] = min(a, b)
    units: dict[int, set[int]] = {}
    for channel in range(count):
        units.setdefault(top(channel), set()).add(channel)
    return [units[key] for key in sorted(units)]


def _period(module: nn.Module, side: str) -> int:
    """Channels this far apart go together; 0 where they are independent."""
    if isinstance(module, nn.RNNBase):
        return module.hidden_size if side == "out" else 0
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and module.groups > 1 and module.groups != module.out_channels:
        return (module.out_channels if side == "out" else module.in_channels) // module.groups
    return module.num_channels // module.num_groups if isinstance(module, nn.GroupNorm) else 0


def _by_unit(channels: Mapping[int, int], units: Sequence[set[int]]) -> tuple[tuple[int, ...], ...]:
    owner = {root: number for number, unit in enumerate(units) for root in unit}
    index: list[list[int]] = [[] for _ in units]
    for channel, root in sorted(channels.items()):
        index[owner[root]].append(channel)
    return tuple(tuple(entry) for entry in index)


# -- cutting -------------------------------------------------------------------------------------------------------------


def cut(model: nn.Module, groups: Sequence[Group], removed: Mapping[str, Sequence[int]]) -> nn.Module:
    """A copy of `model` without the `removed` units of each group (by name). Gradients are not carried over."""
    copy = deepcopy(model)
    for (name, side), channels in _channels(groups, removed).items():
        module = copy.get_submodule(name)
        pruner = _pruner(module)
        (pruner.prune_out_channels if side == "out" else pruner.prune_in_channels)(module, sorted(channels))
    for parameter in copy.parameters():
        parameter.grad = None
    return copy


def _channels(groups: Sequence[Group], removed: Mapping[str, Sequence[int]]) -> dict[tuple[str, str], set[int]]:
    """All removed channels of each side of each module, whichever groups they belong to."""
    channels: dict[tuple[str, str], set[int]] = {}
    for group in groups:
        for part in group.cuts if removed.get(group.name) else ():
            channels.setdefault((part.module, part.side), set()).update(i for unit in removed[group.name] for i in part.index[unit])
    return {key: value for key, value in channels.items() if value}


def _pruner(module: nn.Module) -> BasePruningFunc:
    if isinstance(module, CELLS):
        if getattr(module, "proj_size", 0):
            raise ValueError("an LSTM with a projection")
        return RECURRENT
    return PrunerBox[tp.ops.module2type(module)]


def readers(module: nn.Module, side: str, of: Field) -> list[Tensor]:
    """What reads the channels of this side, channel first: views of `of(parameter)` of shape (channels, ...).

    Channel `c` is row `c` modulo the number of rows: grouped convolutions and both directions share theirs.
    """
    if isinstance(module, nn.RNNBase):
        if side == "in":
            return [of(getattr(module, f"weight_ih_{suffix}")).transpose(0, 1) for depth, suffix in parts(module) if not depth]
        own = [of(getattr(module, f"weight_hh_{suffix}")).transpose(0, 1) for _, suffix in parts(module)]
        return own + [of(getattr(module, f"weight_ih_{suffix}")).transpose(0, 1) for depth, suffix in parts(module) if depth]
    pruner = _pruner(module)
    if side == "out" or pruner.prune_in_channels == pruner.prune_out_channels:
        return []  # made or passed on here, not read
    weight = of(module.get_parameter("weight"))
    return [weight if getattr(module, "transposed", False) else weight.transpose(0, 1)]


def makers(module: nn.Module, side: str, of: Field) -> list[Tensor]:
    """What makes or scales the channels of this side, channel first, as `readers`."""
    if isinstance(module, nn.RNNBase):
        if side == "in":
            return []
        inward = [of(getattr(module, f"weight_ih_{suffix}")) for _, suffix in parts(module)]
        return [weight.reshape(-1, module.hidden_size, weight.shape[1]).transpose(0, 1) for weight in inward]
    if readers(module, side, of) or getattr(module, "weight", None) is None:
        return []
    weight = of(module.get_parameter("weight"))
    return [weight.transpose(0, 1) if getattr(module, "transposed", False) else weight]


def silence(model: nn.Module, groups: Sequence[Group], removed: Mapping[str, Sequence[int]]) -> nn.Module:
    """A copy of `model` in which nothing listens to the `removed` units; every size stays as it was."""
    copy = deepcopy(model)
    with torch.no_grad():
        for (name, side), channels in _channels(groups, removed).items():
            for rows in readers(copy.get_submodule(name), side, lambda parameter: parameter.data):
                rows[sorted({channel % len(rows) for channel in channels})] = 0
    return copy


def unsound(model: nn.Module, group: Group, inputs: Inputs, others: Inputs, *, seed: int = 0) -> str:
    """Why this group may not be cut; empty when the dead-channel test holds on half of its units. The model is in eval mode.

    `others` are a second set of inputs: how far the outputs move between the two is the yardstick.
    """
    order = torch.randperm(group.width, generator=torch.Generator().manual_seed(seed)).tolist()
    removed = {group.name: order[: group.width // 2]}
    try:
        silent = silence(model, [group], removed).eval().double()
        bare = cut(silent, [group], removed).eval()
        with torch.no_grad():
            expected, got, elsewhere = (_flat(net(*_double(given))) for net, given in ((silent, inputs), (bare, inputs), (silent, others)))
    except Exception as error:
        return f"the model breaks without them: {type(error).__name__}: {' '.join(str(error).split())[:120]}"
    if expected.shape != got.shape:
        return "the outputs are made of them"
    scale = float((expected - elsewhere).abs().max()) if expected.shape == elsewhere.shape else float(expected.abs().max())
    if scale == 0:
        return "the outputs do not depend on the inputs, so nothing can be shown"
    moved = float((expected - got).abs().max()) / scale
    return "" if moved <= EXACT else f"removing silent channels moves the outputs by {moved:.0e}: the couplings were traced wrongly"


def _double(inputs: Inputs) -> Inputs:
    return tuple(value.double() if value.is_floating_point() else value for value in inputs)


def _flat(out: Any) -> Tensor:
    values = [out] if isinstance(out, Tensor) else list(out.values() if isinstance(out, Mapping) else out)
    return torch.cat([value.reshape(-1).double() for value in values if isinstance(value, Tensor)])
