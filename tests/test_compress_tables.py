"""Tables that are looked things up in ship as int8 by rows."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.tables import LEAST, narrow_tables


def lookup(table: np.ndarray, *, axis: int = 0, also: bool = False) -> onnx.ModelProto:
    """ids → rows of the table; with `also` the table is multiplied too."""
    nodes = [helper.make_node("Gather", ["table", "ids"], ["found"], "look", axis=axis)]
    outputs = [helper.make_tensor_value_info("found", TensorProto.FLOAT, ["a", "b"])]
    if also:
        nodes.append(helper.make_node("MatMul", ["found", "turned"], ["scored"], "score"))
        nodes.insert(0, helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]))
        outputs.append(helper.make_tensor_value_info("scored", TensorProto.FLOAT, ["a", "b"]))
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])
    graph = helper.make_graph(nodes, "g", [ids], outputs, [numpy_helper.from_array(table, "table")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, ids: list[int]) -> list[np.ndarray]:
    onnx.checker.check_model(model)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"ids": np.array(ids, dtype=np.int64)})


@pytest.fixture
def table() -> np.ndarray:
    rows = np.random.default_rng(0).standard_normal((LEAST // 32, 32)).astype(np.float32)
    return rows * np.geomspace(1e-4, 1e2, len(rows), dtype=np.float32)[:, None]


def test_every_row_keeps_its_digits_however_small_it_is(table):
    found = run(narrow_tables(lookup(table.copy())), [0, 1, 511])[0]
    for row, got in zip((0, 1, 511), found, strict=True):
        assert np.abs(got - table[row]).max() <= np.abs(table[row]).max() / 254 * 1.0001


def test_the_file_is_a_quarter_and_a_row_of_zeros_stays_zero(table):
    table[3] = 0
    model = narrow_tables(lookup(table.copy()))
    assert model.ByteSize() < 0.3 * lookup(table).ByteSize()
    assert not run(model, [3])[0].any()


def test_a_table_that_is_multiplied_too_stays_float_there(table):
    model = narrow_tables(lookup(table.copy(), also=True))
    assert np.array_equal(run(model, [7])[1].shape, (1, len(table)))
    assert {tensor.name for tensor in model.graph.initializer} == {"table", "table_rows", "table_steps"}


def test_a_small_table_and_one_along_another_axis_are_left_alone(table):
    for model in (lookup(table[:8].copy()), lookup(table.copy(), axis=1)):
        before = model.SerializeToString()
        assert narrow_tables(model).SerializeToString() == before
