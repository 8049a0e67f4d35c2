"""Recurrent layers for the tracer and the cutter of `channels.py`: hidden units of LSTMs, GRUs and plain cells, in every gate and direction.

A hidden unit is a row in each gate of both weights and both biases, a column of the recurrent weights, and in a stack of layers a
column of the next one's input weights. Torch-Pruning's own LSTM pruner (1.6.1) cuts the wrong rows, so this is ours. While tracing,
a layer is one node instead of hundreds a time step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch_pruning.pruner.function import BasePruningFunc

CELLS = (nn.LSTM, nn.GRU, nn.RNN)


class Recurrent(BasePruningFunc):  # type: ignore[misc]  # the library is untyped
    """Hidden units of a recurrent layer: `idxs` run over the directions' outputs, (directions · hidden)."""

    TARGET_MODULES = CELLS

    def prune_out_channels(self, layer: nn.RNNBase, idxs: Sequence[int]) -> nn.RNNBase:
        hidden = layer.hidden_size
        keep = torch.tensor(sorted(set(range(hidden)) - {index % hidden for index in idxs}))
        for depth, suffix in parts(layer):
            recurrent, inward = f"weight_hh_{suffix}", f"weight_ih_{suffix}"
            gates = getattr(layer, recurrent).shape[0] // hidden
            rows = torch.cat([keep + gate * hidden for gate in range(gates)])
            _select(layer, recurrent, rows, 0)
            _select(layer, recurrent, keep, 1)
            _select(layer, inward, rows, 0)
            if depth:
                _select(layer, inward, torch.cat([keep + way * hidden for way in range(ways(layer))]), 1)
            for bias in (f"bias_ih_{suffix}", f"bias_hh_{suffix}") if layer.bias else ():
                _select(layer, bias, rows, 0)
        layer.hidden_size = len(keep)
        layer.flatten_parameters()
        return layer

    def prune_in_channels(self, layer: nn.RNNBase, idxs: Sequence[int]) -> nn.RNNBase:
        keep = torch.tensor(sorted(set(range(layer.input_size)) - set(idxs)))
        for depth, suffix in parts(layer):
            if not depth:
                _select(layer, f"weight_ih_{suffix}", keep, 1)
        layer.input_size = len(keep)
        layer.flatten_parameters()
        return layer

    def get_out_channels(self, layer: nn.RNNBase) -> int:
        return int(layer.hidden_size * ways(layer))

    def get_in_channels(self, layer: nn.RNNBase) -> int:
        return int(layer.input_size)


RECURRENT = Recurrent()


def ways(layer: nn.RNNBase) -> int:
    return 2 if layer.bidirectional else 1


def parts(layer: nn.RNNBase) -> list[tuple[int, str]]:
    """(depth, suffix of the parameter names) of each direction of each layer."""
    return [(depth, f"l{depth}{way}") for depth in range(layer.num_layers) for way in ("", "_reverse")[: ways(layer)]]


def _select(layer: nn.Module, name: str, keep: Tensor, axis: int) -> None:
    old = getattr(layer, name)
    setattr(layer, name, nn.Parameter(old.detach().index_select(axis, keep.to(old.device)).clone(), requires_grad=old.requires_grad))


class _Node(torch.autograd.Function):
    """Stands in for a recurrent layer while tracing: right shapes, one node, nothing computed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, shapes: Sequence[Sequence[int]]) -> Any:
        return tuple(x.new_zeros(shape) for shape in shapes)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise NotImplementedError("for tracing only")


@contextmanager
def as_nodes(model: nn.Module) -> Iterator[None]:
    layers = [module for module in model.modules() if isinstance(module, CELLS)]
    for layer in layers:
        layer.forward = _stand_in(layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _stand_in(layer: nn.RNNBase) -> Callable[..., Any]:
    def forward(x: Tensor, state: Any = None) -> Any:
        if x.dim() != 3:
            raise ValueError("unbatched or packed input to a recurrent layer")
        batch = x.shape[0] if layer.batch_first else x.shape[1]
        held = (layer.num_layers * ways(layer), batch, layer.hidden_size)
        shapes = [(*x.shape[:2], ways(layer) * layer.hidden_size), held, *([held] if isinstance(layer, nn.LSTM) else [])]
        out, *states = _Node.apply(x, layer.weight_ih_l0, shapes)  # type: ignore[no-untyped-call]
        return out, tuple(states) if isinstance(layer, nn.LSTM) else states[0]

    return forward
