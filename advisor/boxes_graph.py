"""Decoding and dropping of doubles as a small ONNX graph of its own, for a runtime that is to do it beside the net.

Idea: the arithmetic of `anchors.py` with ONNX's own NonMaxSuppression; of queries (`queries.py`) a threshold alone. It is kept apart from the net: it changes with the thresholds,
it is never quantized, and it takes as long as a small net.
Source: NonMaxSuppression, ONNX operator set 11.
Shape: scores (1, anchors, 1 + classes) and boxes (1, anchors, 4), raw → found (n, 4) left, top, right, bottom as shares of the picture,
classes (n,) int64 from 0, chances (n,); class by class, the surest first. Of queries scores (1, queries, classes), boxes of middle and
size, and what is found of all classes, the surest first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from advisor import anchors
from rules.problems import bad_environment

if TYPE_CHECKING:
    import onnx

OPSET, IR = 17, 8


def graph(
    classes: int, side: int, *, least: float = 0.5, overlap: float = 0.5, most: int = 100, smallest: float = anchors.SCALES[0]
) -> onnx.ModelProto:
    """The graph behind a detector of `classes` at `side` pixels: boxes of at least `least`, no two of a class over `overlap`.

    `smallest` is the scale of its smallest default boxes, as the task was given it.

    Raises Problem (exit 5) without onnx.
    """
    held = anchors.anchors(side, smallest)
    constants: dict[str, Any] = {
        "weights": np.array(anchors.WEIGHTS, np.float32),
        "middles": held[:, :2],
        "sizes": held[:, 2:],
        "largest": np.float32(anchors.LARGEST),
        "nought": np.float32(0),
        "one": np.float32(1),
        "half": np.float32(0.5),
        "halves": np.array([2, 2], np.int64),
        "most": np.array([most], np.int64),
        "overlap": np.array([overlap], np.float32),
        "least": np.array([least], np.float32),
        "first": np.array([1], np.int64),
        "end": np.array([1 + classes], np.int64),
        "last_axis": np.array([2], np.int64),
        "columns": np.array([1, 1, 1], np.int64),
        "flat": np.array([-1], np.int64),
    }
    steps: list[tuple[str, list[str], list[str], dict[str, Any]]] = [
        ("Softmax", ["scores"], ["shares"], {"axis": -1}),
        ("Slice", ["shares", "first", "end", "last_axis"], ["things"], {}),
        ("Transpose", ["things"], ["by_class"], {"perm": [0, 2, 1]}),
        ("Div", ["boxes", "weights"], ["moved"], {}),
        ("Split", ["moved", "halves"], ["shift", "stretch"], {"axis": 2}),
        ("Mul", ["shift", "sizes"], ["shifted"], {}),
        ("Add", ["shifted", "middles"], ["middle"], {}),
        ("Min", ["stretch", "largest"], ["bounded"], {}),
        ("Exp", ["bounded"], ["times"], {}),
        ("Mul", ["times", "sizes"], ["size"], {}),
        ("Mul", ["size", "half"], ["reach"], {}),
        ("Sub", ["middle", "reach"], ["low"], {}),
        ("Add", ["middle", "reach"], ["high"], {}),
        ("Concat", ["low", "high"], ["edges"], {"axis": 2}),
        ("Clip", ["edges", "nought", "one"], ["corners"], {}),
        ("NonMaxSuppression", ["corners", "by_class", "most", "overlap", "least"], ["chosen"], {}),
        ("Split", ["chosen", "columns"], ["picture", "class", "place"], {"axis": 1}),
        ("Reshape", ["class", "flat"], ["classes"], {}),
        ("GatherND", ["by_class", "chosen"], ["chances"], {}),
        ("Concat", ["picture", "place"], ["where"], {"axis": 1}),
        ("GatherND", ["corners", "where"], ["found"], {}),
    ]
    return _written(steps, constants, anchors.count(side), 1 + classes)


def of_queries(classes: int, queries: int, *, least: float = 0.5, most: int = 100) -> onnx.ModelProto:
    """The graph behind a detector of `classes` that asks `queries` times: what is surer than `least`, `most` of it. No suppression.

    Raises Problem (exit 5) without onnx.
    """
    constants: dict[str, Any] = {
        "nought": np.float32(0),
        "one": np.float32(1),
        "half": np.float32(0.5),
        "halves": np.array([2, 2], np.int64),
        "least": np.float32(least),
        "most": np.array([most], np.int64),
        "columns": np.array([1, 1, 1], np.int64),
        "flat": np.array([-1], np.int64),
    }
    steps: list[tuple[str, list[str], list[str], dict[str, Any]]] = [
        ("Sigmoid", ["scores"], ["sure"], {}),
        ("Split", ["boxes", "halves"], ["middle", "size"], {"axis": 2}),
        ("Mul", ["size", "half"], ["reach"], {}),
        ("Sub", ["middle", "reach"], ["low"], {}),
        ("Add", ["middle", "reach"], ["high"], {}),
        ("Concat", ["low", "high"], ["edges"], {"axis": 2}),
        ("Clip", ["edges", "nought", "one"], ["corners"], {}),
        ("Greater", ["sure", "least"], ["there"], {}),
        ("NonZero", ["there"], ["columnwise"], {}),
        ("Transpose", ["columnwise"], ["all"], {"perm": [1, 0]}),
        ("GatherND", ["sure", "all"], ["every"], {}),
        ("Shape", ["every"], ["number"], {}),
        ("Min", ["number", "most"], ["kept"], {}),
        ("TopK", ["every", "kept"], ["chances", "order"], {"axis": 0}),
        ("Gather", ["all", "order"], ["chosen"], {"axis": 0}),
        ("Split", ["chosen", "columns"], ["picture", "place", "class"], {"axis": 1}),
        ("Reshape", ["class", "flat"], ["classes"], {}),
        ("Concat", ["picture", "place"], ["where"], {"axis": 1}),
        ("GatherND", ["corners", "where"], ["found"], {}),
    ]
    return _written(steps, constants, queries, classes)


def joined(main: onnx.ModelProto, behind: onnx.ModelProto) -> onnx.ModelProto:
    """A detector with its decoding behind it in one graph: one picture (1, 3, side, side) in, what is found out.

    It computes as the two do one after the other. What `behind` calls its own gets a prefix that the detector does not use, and what the
    detector calls as the decoding's outputs are called gets another.
    """
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(main)
    fed, told = {port.name for port in behind.graph.input}, {port.name for port in behind.graph.output}
    used = {name for node in main.graph.node for name in (*node.input, *node.output)} | {value.name for value in main.graph.initializer}
    prefix = next(start for n in range(len(used) + 1) if not any(name.startswith(start := f"decode{n or ''}/") for name in used))
    _rename(made.graph, lambda name: f"{prefix}net/{name}" if name in told else name)
    decode = onnx.GraphProto()
    decode.CopyFrom(behind.graph)
    _rename(decode, lambda name: name if name in fed | told or not name else f"{prefix}{name}")
    made.graph.node.extend(decode.node)
    made.graph.initializer.extend(decode.initializer)
    del made.graph.output[:]
    made.graph.output.extend(behind.graph.output)
    for port in made.graph.input:
        port.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.checker.check_model(made)
    return made


def _rename(graph: onnx.GraphProto, called: Callable[[str], str]) -> None:
    """Every tensor between the nodes of a graph by its new name. In place."""
    for node in graph.node:
        node.input[:], node.output[:] = [called(name) for name in node.input], [called(name) for name in node.output]
    for value in (*graph.initializer, *graph.value_info):
        value.name = called(value.name)


def _written(
    steps: Sequence[tuple[str, list[str], list[str], dict[str, Any]]], constants: Mapping[str, Any], rows: int, numbers: int
) -> onnx.ModelProto:
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ImportError:
        raise bad_environment("writing a graph needs onnx, which is not installed", remedy="pip install onnx") from None
    floats = TensorProto.FLOAT
    made = helper.make_graph(
        [helper.make_node(kind, inputs, outputs, **settings) for kind, inputs, outputs, settings in steps],
        "boxes",
        [
            helper.make_tensor_value_info("scores", floats, [1, rows, numbers]),
            helper.make_tensor_value_info("boxes", floats, [1, rows, 4]),
        ],
        [
            helper.make_tensor_value_info("found", floats, ["n", 4]),
            helper.make_tensor_value_info("classes", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("chances", floats, ["n"]),
        ],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    checker.check_model(model, full_check=True)
    return model
