"""The door: what is promised about an exported file, and what is refused there."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from tasks_for_tests import TASK, tiny_module
from torch import nn

from compress.context import Target
from compress.export import export, relative, scatter, shapes
from compress.runtime import predictor, session
from rules.examples import Port, Signature
from rules.problems import Exit, Problem


@dataclass(frozen=True)
class Images:
    """Data with nothing but a signature and probes."""

    signature: Signature
    arrays: tuple[dict[str, np.ndarray], ...]

    def probes(self) -> dict[str, dict[str, np.ndarray]]:
        return {f"p{number}": arrays for number, arrays in enumerate(self.arrays)}


def images(*ports: Port, outputs: tuple[Port, ...] = (Port("y", "float32", ("batch", 3)),), sizes: tuple[int, ...] = (8,)) -> Any:
    rng = np.random.default_rng(0)
    ports = ports or (Port("x", "float32", ("batch", 3, 8, "width"), {"width": (4, 64, 4)}),)
    made = tuple(
        {
            port.name: rng.random(
                [size if isinstance(axis, str) and index else 1 if isinstance(axis, str) else axis for index, axis in enumerate(port.shape)]
            ).astype(port.dtype)
            for port in ports
        }
        for size in sizes
    )
    return Images(Signature(tuple(ports), outputs), made)


class Convolutions(nn.Module):
    """Convolution and normalisation that must fold, pooled to three numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 3)
        with torch.no_grad():
            self.norm.running_mean.normal_()
            self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tiny_module(), TASK.open(), tmp_path_factory.mktemp("export") / "model.onnx", target=Target())


# -- what is promised ----------------------------------------------------------------------------------------------------


def test_a_recurrent_net_keeps_batch_and_width_dynamic_under_the_signatures_names(exported: Path) -> None:
    opened = session(exported)
    assert [(info.name, info.shape) for info in opened.get_inputs()] == [("image", ["batch", 1, 32, "width"])]
    assert [(info.name, info.shape) for info in opened.get_outputs()] == [("logits", ["batch", "time", 5])]


@pytest.mark.parametrize("shape", [(1, 1, 32, 48), (3, 1, 32, 160), (7, 1, 32, 400)])
def test_the_file_says_what_the_module_says_at_sizes_it_was_not_traced_at(exported: Path, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    with torch.no_grad():
        wanted = tiny_module().eval()(torch.from_numpy(image)).numpy()
    assert relative(predictor(exported)({"image": image})["logits"], wanted) < 1e-4


def test_the_same_weights_give_the_same_bytes_and_others_do_not(exported: Path, tmp_path: Path) -> None:
    again = export(tiny_module(), TASK.open(), tmp_path / "again.onnx", target=Target())
    other = export(tiny_module(seed=1), TASK.open(), tmp_path / "other.onnx", target=Target())
    assert again.read_bytes() == exported.read_bytes() != other.read_bytes()


def test_versions_are_capped_for_the_target(exported: Path, tmp_path: Path) -> None:
    assert (onnx.load(str(exported)).ir_version, onnx.load(str(exported)).opset_import[0].version) == (8, 17)
    older = onnx.load(str(export(tiny_module(), TASK.open(), tmp_path / "old.onnx", target=Target(opset=13, ir_version=7))))
    assert (older.ir_version, older.opset_import[0].version) == (7, 13)


def test_the_ir_version_is_never_older_than_the_opset_allows(tmp_path: Path) -> None:
    made = onnx.load(str(export(tiny_module(), TASK.open(), tmp_path / "m.onnx", target=Target(opset=17, ir_version=3))))
    assert made.ir_version == 8


def test_normalisation_is_folded_into_the_convolution_before_it(tmp_path: Path) -> None:
    made = onnx.load(str(export(Convolutions(), images(), tmp_path / "m.onnx", target=Target())))
    assert "Conv" in {node.op_type for node in made.graph.node}
    assert "BatchNormalization" not in {node.op_type for node in made.graph.node}


def test_the_module_is_left_as_it_was(tmp_path: Path) -> None:
    module = Convolutions().train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    export(module, images(), tmp_path / "m.onnx", target=Target())
    assert module.training and module.norm.training
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_a_file_does_not_say_where_it_was_made(exported: Path) -> None:
    content = exported.read_bytes()
    assert b".py" not in content and str(Path(__file__).parent).encode() not in content


def test_exporting_is_silent_and_leaves_filters_and_loggers_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    filters, disabled = list(warnings.filters), logging.root.manager.disable
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        export(Convolutions(), images(), tmp_path / "m.onnx", target=Target())
    out = capfd.readouterr()
    assert (out.out, out.err) == ("", "")
    assert [str(warning.message) for warning in heard] == []
    assert list(warnings.filters) == filters and logging.root.manager.disable == disabled


def test_several_inputs_keep_their_order_and_names(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a - 2 * b

    data = images(Port("first", "float32", ("batch", 3)), Port("second", "float32", ("batch", 3)))
    got = predictor(export(Two(), data, tmp_path / "m.onnx", target=Target()))(
        {"first": np.ones((2, 3), np.float32), "second": np.full((2, 3), 5, np.float32)}
    )
    np.testing.assert_array_equal(got["y"], np.full((2, 3), -9))


def test_what_the_first_exporter_cannot_do_goes_through_the_second(tmp_path: Path) -> None:
    class Only(nn.Module):
        """The TorchScript exporter has no form for `rms_norm`."""

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.rms_norm(self.head(x), (3,))

    data = images(Port("x", "float32", ("batch", 3)))
    path = export(Only(), data, tmp_path / "m.onnx", target=Target(opset=20, ir_version=10))
    assert session(path).get_inputs()[0].shape == ["batch", 3]


# -- what is refused -----------------------------------------------------------------------------------------------------


def refused(module: nn.Module, data: Any, path: Path, **target: Any) -> str:
    with pytest.raises(Problem) as caught:
        export(module, data, path, target=Target(**target))
    assert caught.value.code == Exit.INPUT and not path.exists() and "\n" not in str(caught.value)
    return str(caught.value)


def test_an_axis_that_the_trace_fixed_is_refused_and_nothing_is_published(tmp_path: Path) -> None:
    class Fixed(Convolutions):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + torch.zeros(int(x.shape[0]), 1)

    said = refused(Fixed(), images(), tmp_path / "m.onnx")
    assert "batch" in said or "x [" in said


def test_a_module_that_answers_by_a_coin_is_refused(tmp_path: Path) -> None:
    class Coin(Convolutions):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + torch.rand(())

    assert "differs from the module" in refused(Coin(), images(), tmp_path / "m.onnx")


def test_a_branch_on_the_size_of_the_input_is_found_at_the_other_size(tmp_path: Path) -> None:
    class Branch(Convolutions):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * (2 if x.shape[-1] > 10 else 1)

    assert "differs from the module" in refused(Branch(), images(sizes=(8, 16)), tmp_path / "m.onnx")


def test_an_operator_without_a_form_in_onnx_is_named(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(x.mean((2, 3)))

    assert "bessel_j0" in refused(Odd(), images(), tmp_path / "m.onnx")


def test_a_forward_that_does_not_take_the_signatures_inputs_is_explained(tmp_path: Path) -> None:
    class Nothing(nn.Module):
        def forward(self) -> torch.Tensor:
            return torch.zeros(1, 3)

    assert "signature" in refused(Nothing(), images(), tmp_path / "m.onnx")


def test_an_input_that_the_module_ignores_is_refused(tmp_path: Path) -> None:
    class First(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a * 1.5

    assert "'b'" in refused(First(), images(Port("a", "float32", ("batch", 3)), Port("b", "float32", ("batch", 3))), tmp_path / "m.onnx")


def test_an_output_of_another_shape_than_declared_is_refused(tmp_path: Path) -> None:
    assert "'y'" in refused(Convolutions(), images(outputs=(Port("y", "float32", ("batch", 4)),)), tmp_path / "m.onnx")


# -- the shapes it is run at ---------------------------------------------------------------------------------------------


def test_three_shapes_have_three_batches_and_both_widths_and_no_equal_rows() -> None:
    made = list(shapes(images(sizes=(8, 20)).signature, images(sizes=(8, 20)).probes()))
    assert [array["x"].shape for array in made] == [(1, 3, 8, 8), (3, 3, 8, 20), (2, 3, 8, 8)]
    assert not np.array_equal(made[1]["x"][0], made[1]["x"][2])


def test_a_single_width_gets_a_neighbour_that_its_range_allows() -> None:
    data = images(sizes=(8,))
    assert sorted({array["x"].shape[-1] for array in shapes(data.signature, data.probes())}) == [8, 12]
    port = replace(data.signature.inputs[0], ranges={"width": (4, 8, 4)})
    assert sorted({array["x"].shape[-1] for array in shapes(Signature((port,), data.signature.outputs), data.probes())}) == [4, 8]


def test_integers_stay_among_the_values_the_probes_have() -> None:
    port = Port("ids", "int64", ("batch", "length"), {"length": (1, 9, 1)})
    data = Images(Signature((port,), ()), ({"ids": np.array([[3, 5, 7]])},))
    made = list(shapes(data.signature, data.probes()))
    assert {value for array in made for value in array["ids"].ravel().tolist()} == {3, 5, 7}


@pytest.mark.parametrize(
    ("got", "wanted", "expected"), [([1, 2], [1, 2], 0.0), ([1, 3], [1, 2], 0.5), ([float("nan")], [1], float("inf")), ([], [], 0.0)]
)
def test_a_difference_is_relative_to_the_largest_output(got: list[float], wanted: list[float], expected: float) -> None:
    assert relative(np.array(got, np.float32), np.array(wanted, np.float32)) == expected


def test_what_rounding_alone_makes_apart_is_no_fault_of_an_export_and_what_it_does_not_is():
    class Unsteady(nn.Module):
        def __init__(self, gain: float) -> None:
            super().__init__()
            self.gain = gain

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sin(self.gain * torch.cumsum(x, 1))

    feeds = {"x": np.linspace(0.1, 1, 64, dtype=np.float32)[None]}
    ports = Signature((Port("x", "float32", (1, 64)),), (Port("y", "float32", (1, 64)),))
    steady, unsteady = (scatter(Unsteady(gain), ports, feeds)["y"] for gain in (1.0, 1e5))
    assert steady < 1e-5 < unsteady <= 0.1
