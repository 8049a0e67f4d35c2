"""The spectrogram at the start of a graph stays float through quantization and training; a logarithm elsewhere is none."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from advisor.architectures import ds_cnn
from advisor.tasks.keyword_spotting import TASK
from compress.context import Target
from compress.export import export
from compress.graph.front import front
from compress.graph.module import load as as_module
from compress.graph.reading import parse, read
from compress.measuring import quantized
from compress.quantization import Parts, finish, prepare, recipes
from compress.stages.fp16 import half

DATA = TASK.stand_in({"classes": 4, "rate": 8000})


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return export(
        ds_cnn.build(classes=4, rate=8000, channels=16, layers=2), DATA, tmp_path_factory.mktemp("ds") / "m.onnx", target=Target()
    )  # type: ignore[arg-type]


def test_everything_up_to_the_logarithm_is_the_front(graph: Path) -> None:
    found = front(read(graph))
    assert [node.op for node in found].count("MatMul") == 3 and found[-1].op == "Log"
    assert not any(node.op == "Conv" for node in found)


def test_the_quantized_file_computes_it_in_float(graph: Path, tmp_path: Path) -> None:
    path = quantized(graph, "static", DATA, target=Target())  # type: ignore[arg-type]
    assert path is not None
    done = read(path)
    inside = {name for node in front(done) for name in (*node.inputs, *node.outputs)}
    assert not any(node.op in ("QuantizeLinear", "DequantizeLinear") for node in front(done))
    assert [node.op for node in done.nodes].count("QuantizeLinear") > 3
    assert "waveform" in inside and not any(node.op == "QuantizeLinear" and node.inputs[0] == "waveform" for node in done.nodes)


def test_its_matrices_are_not_trained(graph: Path) -> None:
    module = as_module(graph)
    constants = {name for node in front(module.graph) for name in node.inputs}
    assert not constants & set(module.places) and module.places


class Late(nn.Module):
    """A net that answers with a logarithm."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log(self.map(x).square() + 1)


def test_a_logarithm_at_the_end_is_none(tmp_path: Path) -> None:
    path = tmp_path / "late.onnx"
    torch.onnx.export(Late(), (torch.zeros(2, 8),), str(path), dynamo=False, input_names=["x"], output_names=["y"], opset_version=17)
    assert front(read(path)) == ()


class Attends(nn.Module):
    """A spectrogram, then attention: the recipe that makes products dynamic must leave the former alone."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Linear(8, 8, bias=False)
        self.query = nn.Linear(8, 8, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.log(self.front(x).square() + 1)
        query = self.query(x)
        return torch.softmax(query @ query.transpose(1, 2), -1) @ x


def test_dynamic_products_leave_it_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "attends.onnx"
    torch.onnx.export(Attends(), (torch.zeros(2, 3, 8),), str(path), dynamo=False, input_names=["x"], output_names=["y"], opset_version=17)
    parts = Parts(tmp_path / "parts")
    base = prepare(path, parts.float)
    assert recipes(read(base)) == ["dynamic"]
    finish(base, parts.shipped, recipe="dynamic", format=Target())
    ops = [node.op_type for node in onnx.load(str(parts.shipped)).graph.node]
    assert ops.index("MatMul") < ops.index("Log") < ops.index("MatMulInteger")


def test_half_precision_leaves_it_whole(graph: Path) -> None:
    done = parse(half(onnx.load(str(graph)), ()))
    constants = {name for node in front(done) for name in node.inputs if name in done.initializers}
    kinds = {done.initializers[name].dtype.name for name in constants}
    assert "float32" in kinds and "float16" not in kinds
    assert any(value.dtype.name == "float16" for value in done.initializers.values())
