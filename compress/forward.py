"""A module at work: on tensors, as arrays in and arrays out, in lower precision, with its randomness and threads held still."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

from compress.context import Data, Predict, tensors
from rules.examples import Feeds

if TYPE_CHECKING:
    from torch import Tensor, nn

Precision = Literal["fp32", "bf16"]


def predictor(model: nn.Module, data: Data, *, device: str = "cpu") -> Predict:
    """`model` as arrays in, arrays out: in eval mode, without gradients, outputs named as the data's signature names them."""
    import torch

    names = [port.name for port in data.signature.outputs]

    def predict(feeds: Feeds) -> dict[str, Any]:
        was = model.training
        model.eval()
        try:
            with torch.no_grad():
                outputs = forward(model, tensors(feeds, device), data)
        finally:
            model.train(was)
        held = outputs if isinstance(outputs, tuple | list) else (outputs,)
        return {name: output.float().cpu().numpy() for name, output in zip(names, held, strict=False)}

    return predict


def answering(model: nn.Module, device: str) -> nn.Module:
    """`model` in eval mode on the device: itself on the CPU, elsewhere a copy, so that its owner finds it where it was."""
    return model.eval() if device == "cpu" else copy.deepcopy(model).eval().to(device)


def forward(model: nn.Module, inputs: Mapping[str, Tensor], data: Data) -> Any:
    """The model on one batch: its inputs in the order of the data's signature."""
    return model(*(inputs[port.name] for port in data.signature.inputs))


def autocast(precision: Precision, device: str) -> AbstractContextManager[Any]:
    """bfloat16 arithmetic where `precision` asks for it; weights and moments stay float32."""
    import torch

    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


@contextmanager
def reproducible(threads: int, device: str = "cpu") -> Iterator[None]:
    """A fixed number of threads inside (sums depend on it); the random state, the device's too, is the caller's again afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def channels_last(*modules: nn.Module) -> Iterator[None]:
    """Image kernels laid out channel by channel inside: convolutions train a quarter to a third faster on a CPU. Values stay."""
    import torch

    kernels = [parameter for module in modules for parameter in module.parameters() if parameter.ndim == 4]
    try:
        for kernel in kernels:
            kernel.data = kernel.data.contiguous(memory_format=torch.channels_last)
        yield
    finally:
        for kernel in kernels:
            kernel.data = kernel.data.contiguous()
