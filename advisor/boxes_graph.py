"""Decoding and dropping of doubles as a small ONNX graph of its own, for a runtime that is to do it beside the net.

Idea: the arithmetic of `anchors.py` with ONNX's own NonMaxSuppression; of queries (`queries.py`) a threshold alone. It is kept apart from the net: it changes with the thresholds,
it is never quantized, and it takes as long as a small net.
Source: NonMaxSuppression, ONNX operator set 11.
Shape: scores (1, anchors, 1 + classes) and boxes (1, anchors, 4), raw → found (n, 4) left, top, right, bottom as shares of the picture,
classes (n,) int64 from 0, chances (n,); class by class, the surest first. Of queries scores (1, queries, classes), boxes of middle and
size, and what is found of all classes, the surest first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
