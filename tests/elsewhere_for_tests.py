"""A second device for machines that have none: tensors that say they are on "elsewhere:0", and refuse to meet one that is on the CPU.

Each holds a CPU tensor and unwraps it for every operator, so what is computed is right to the last bit; what is watched is where.
A CUDA device refuses the same mixtures. It takes over torch's one free backend of a process, so tests run it in a process of its own:
`python -m tests.elsewhere_for_tests` prints what it found as JSON.
Source: torch's own tests of a backend written in Python (`torch.utils.backend_registration`).
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from compress import checkpoint

THERE = "elsewhere:0"
CROSSING = ("aten::copy_", "aten::_to_copy")  # the operators that may see both sides


class There(Tensor):
    """A tensor on the second device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> There:
        made = Tensor._make_wrapper_subclass(cls, held.size(), strides=held.stride(), dtype=held.dtype, device=torch.device(THERE))
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def new_tensor(self, data: Any, **how: Any) -> Tensor:  # torch's own goes around `__torch_dispatch__`
        return torch.tensor(data, **{"dtype": self.dtype, **how}).to(THERE)


class Watching(TorchDispatchMode):
    """Inside, tensors can be made on the second device and sent to it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The operator on what the tensors hold; its result where its arguments are, or where it is asked to be."""
    name = func._schema.name
    given = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
    there = [leaf for leaf in given if isinstance(leaf, There)]
    here = [leaf for leaf in given if not isinstance(leaf, There) and leaf.dim() > 0]  # numbers travel by themselves
    if there and here and name not in CROSSING:
        raise RuntimeError(f"{name}: its tensors are on two devices")
    asked = kwargs.get("device")
    goes_there = bool(there) if asked is None else torch.device(asked).type == "elsewhere"
    with _disable_current_modes(), _autograd(name.startswith("torchvision::")):
        found = CELLS.get(name, func)(*tree_map(_here, args), **tree_map(_here, kwargs))
    if name.endswith("_") and isinstance(found, Tensor):
        if torch.Tag.inplace_view in func.tags:  # what it changed is the shape, and the outer tensor has its own
            with no_dispatch():
                func(*args, **kwargs)
        return args[0]
    same = {id(_here(leaf)): leaf for leaf in given}
    return tree_map(lambda leaf: same.get(id(leaf), There(leaf) if goes_there else leaf) if isinstance(leaf, Tensor) else leaf, found)


def _autograd(wanted: bool) -> Any:
    """Gradients inside an operator, where torch has switched them off: some of torchvision's take one inside."""
    if not wanted:
        return nullcontext()
    nothing = torch._C.DispatchKeySet.from_raw_repr(0)
    return torch._C._ForceDispatchKeyGuard(torch._C._dispatch_tls_local_include_set(), nothing)


def _here(leaf: Any) -> Any:
    if isinstance(leaf, There):
        return leaf.held
    return torch.device("cpu") if isinstance(leaf, torch.device) and leaf.type == "elsewhere" else leaf


# -- the recurrent cells that every device but the CPU has as one operator -----------------------------------------------------


def _lstm(x: Tensor, h: Tensor, cell: Tensor, x_bias: Tensor | None = None, h_bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    gates = _biased(x, x_bias) + _biased(h, h_bias)
    enter, forget, new, leave = gates.chunk(4, 1)
    open_ = torch.cat([enter.sigmoid(), forget.sigmoid(), new.tanh(), leave.sigmoid()], 1)
    enter, forget, new, leave = open_.chunk(4, 1)
    after = forget * cell + enter * new
    return leave * after.tanh(), after, open_


def _lstm_gradient(
    of_hidden: Tensor | None, of_cell: Tensor | None, before: Tensor, after: Tensor, open_: Tensor, biased: bool
) -> tuple[Any, ...]:
    enter, forget, new, leave = open_.chunk(4, 1)
    zero, bent = torch.zeros_like(after), after.tanh()
    hidden = zero if of_hidden is None else of_hidden
    cell = hidden * leave * (1 - bent**2) + (zero if of_cell is None else of_cell)
    parts = (cell * new * enter * (1 - enter), cell * before * forget * (1 - forget), cell * enter * (1 - new**2))
    gates = torch.cat([*parts, hidden * bent * leave * (1 - leave)], 1)
    return gates, cell * forget, gates.sum(0) if biased else None


def _gru(x: Tensor, h: Tensor, hidden: Tensor, x_bias: Tensor | None = None, h_bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    x, h = _biased(x, x_bias), _biased(h, h_bias)
    (xr, xz, xn), (hr, hz, hn) = x.chunk(3, 1), h.chunk(3, 1)
    reset, update = (xr + hr).sigmoid(), (xz + hz).sigmoid()
    new = (xn + reset * hn).tanh()
    return new + update * (hidden - new), torch.cat([reset, update, new, hidden, hn], 1)


def _gru_gradient(of_hidden: Tensor, held: Tensor, biased: bool) -> tuple[Any, ...]:
    reset, update, new, hidden, hn = held.chunk(5, 1)
    of_new = of_hidden * (1 - update) * (1 - new**2)
    of_update, of_reset = of_hidden * (hidden - new) * update * (1 - update), of_new * hn * reset * (1 - reset)
    x = torch.cat([of_reset, of_update, of_new], 1)
    h = torch.cat([of_reset, of_update, of_new * reset], 1)
    return x, h, of_hidden * update, x.sum(0) if biased else None, h.sum(0) if biased else None


def _biased(gates: Tensor, bias: Tensor | None) -> Tensor:
    return gates if bias is None else gates + bias


CELLS: dict[str, Callable[..., Any]] = {
    "aten::_thnn_fused_lstm_cell": _lstm,
    "aten::_thnn_fused_lstm_cell_backward_impl": _lstm_gradient,
    "aten::_thnn_fused_gru_cell": _gru,
    "aten::_thnn_fused_gru_cell_backward": _gru_gradient,
}


# -- what is tried there --------------------------------------------------------------------------------------------------


def a_training(device: str) -> dict[str, Any]:
    """Two module stages on stripes: what was seen of them, and where the modules are afterwards."""
    from compress.stages.distil import Distil
    from compress.stages.train import Train
    from tests.tasks_for_tests import TASK, context, tiny_module

    data = TASK.open(settings={"train": 64, "val": 16, "test": 8})
    with tempfile.TemporaryDirectory() as folder:
        first = context(Path(folder) / "train", data=data, device=device)
        teacher = Train(steps=4, evaluations=2, ema=0.9, keep="best", lr=1e-2).apply(tiny_module(), first)
        second = context(Path(folder) / "distil", data=data, device=device, teacher=teacher)
        student = Distil(steps=4, evaluations=1, lr=1e-2).apply(tiny_module(1, channels=8), second)
        held = {path.name: _tensors(path) for path in Path(folder).rglob("*.safetensors")}
    modules = {"teacher": teacher, "student": student}
    return {
        "curves": [*first.curves, *second.curves],
        "places": {name: sorted({str(value.device) for value in module.state_dict().values()}) for name, module in modules.items()},
        "checkpoints": held,
    }


def _tensors(path: Path) -> list[str]:
    return [f"{name} {value.dtype} {list(value.shape)}" for name, value in checkpoint.read(path)[0].items()]


def a_mixture() -> str:
    """What is said when two devices meet."""
    try:
        return str(torch.ones(2, device=THERE) + torch.ones(2))
    except RuntimeError as error:
        return str(error)


def tasks() -> dict[str, str]:
    """Every task's losses, forwards and backwards; its name and what went wrong, "" where nothing did."""
    from advisor.tasks import names, task
    from compress.context import tensors
    from compress.forward import forward
    from tests.contracts.test_task_contract import small_model

    def tried(name: str) -> None:
        subject = task(name)
        data = subject.open(None, seed=0)
        batch = next(iter(data.batches("train", batch_size=4, augment=True, limit=4)))
        model, teacher = small_model(data).to(THERE), small_model(data).to(THERE)
        inputs, targets = tensors(batch.inputs, THERE), tensors(batch.targets, THERE)
        subject.loss(forward(model, inputs, data), targets).backward()
        with torch.no_grad():
            wanted = forward(teacher, inputs, data)
        subject.distil_loss(forward(model, inputs, data), wanted, targets, temperature=2.0).backward()
        assert all(isinstance(parameter.grad, There) for parameter in model.parameters() if parameter.grad is not None)

    return {name: _said(tried, name) for name in names()}


def architectures() -> dict[str, str]:
    """One variant of every card, forwards and backwards as in training; its name and what went wrong."""
    from compress.context import tensors
    from tests.contracts.test_architecture_contract import VARIANTS, fresh, inputs

    def tried(pair: tuple[str, str]) -> None:
        module: nn.Module = fresh(*pair).train().to(THERE)
        found = module(*tensors(inputs(*pair, 4, seed=1), THERE).values())
        held = [found] if isinstance(found, Tensor) else list(found.values() if isinstance(found, dict) else found)
        sum(value.float().sum() for value in held if value.is_floating_point()).backward()

    first = dict(reversed(VARIANTS))
    return {name: _said(tried, (name, variant)) for name, variant in sorted(first.items())}


def _said(tried: Callable[[Any], None], what: Any) -> str:
    try:
        tried(what)
    except Exception:
        return traceback.format_exc(limit=-3)
    return ""


def main() -> None:
    torch.set_num_threads(1)
    _setup_privateuseone_for_python_backend("elsewhere")  # before the first gradient: autograd counts the devices then
    torch.elsewhere.get_amp_supported_dtype = lambda: [torch.bfloat16]  # type: ignore[attr-defined]
    here = a_training("cpu")
    with Watching():
        found = {"here": here, "there": a_training(THERE), "mixture": a_mixture()}
        found |= {"tasks": tasks(), "architectures": architectures()}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
