"""Tables that are only looked things up in, stored as int8: a row with its own step, and the rows that are asked for made float again.

Idea: of a net of texts the table of subwords is most of the file. Looking up computes nothing, so the runtime gains no time by 8 bits and
its converters leave such tables in float or give all rows one step; here every row has its own, so that rare words keep their digits.
Shape: Gather of (n, d) float32 along axis 0 → Gather of (n, d) int8, Cast, times Gather of (n, 1) steps. No torch.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compress.graph.compact import drop_unused

LEAST = 16_384  # numbers: below that the nodes cost more bytes and time than the table holds
LARGEST = 127


def narrow_tables(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with every large constant table of a Gather stored as int8 by rows, in place. A table used elsewhere too gets a copy here."""
    tables = {tensor.name: tensor for tensor in model.graph.initializer if _large(tensor)}
    nodes: list[onnx.NodeProto] = []
    made: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "Gather" and node.input[0] in tables and _axis(node) == 0:
            if node.input[0] not in made:
                made.add(node.input[0])
                model.graph.initializer.extend(_narrowed(tables[node.input[0]]))
            nodes += _looked_up(node)
        else:
            nodes.append(node)
    if made:
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        drop_unused(model)
    return model


def _large(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2 and int(np.prod(tensor.dims)) >= LEAST


def _axis(node: onnx.NodeProto) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "axis"), 0)


def _narrowed(tensor: onnx.TensorProto) -> list[onnx.TensorProto]:
    """(n, d) float → (n, d) int8 and (n, 1) steps, symmetric."""
    table = numpy_helper.to_array(tensor)
    largest = np.abs(table).max(axis=1, keepdims=True)
    steps = np.where(largest > 0, largest / np.float32(LARGEST), 1).astype(np.float32)
    rows = np.clip(np.rint(table / steps), -LARGEST, LARGEST).astype(np.int8)
    return [numpy_helper.from_array(rows, f"{tensor.name}_rows"), numpy_helper.from_array(steps, f"{tensor.name}_steps")]


def _looked_up(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The nodes that stand for the Gather."""
    table, ids, name = node.input[0], node.input[1], node.name or node.output[0]
    rows, wide, steps = (f"{node.output[0]}_{part}" for part in ("rows", "wide", "steps"))
    return [
        helper.make_node("Gather", [f"{table}_rows", ids], [rows], f"{name}_rows", axis=0),
        helper.make_node("Cast", [rows], [wide], f"{name}_cast", to=onnx.TensorProto.FLOAT),
        helper.make_node("Gather", [f"{table}_steps", ids], [steps], f"{name}_steps", axis=0),
        helper.make_node("Mul", [wide, steps], [node.output[0]], f"{name}_scaled"),
    ]
