"""Whether this processor's kernels clip products of unsigned and signed bytes, measured: x86 without VNNI adds pairs of them in 16 bits.

There a file of that format says something else than it means, which `verify` finds and the advisor avoids (`compress/target.py`); what a
test says of the arithmetic is said of a format that is exact here.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from compress.context import Target

WHY = "this processor clips products of unsigned and signed bytes (x86 without VNNI)"


@cache
def clips() -> bool:
    """Sixty-four times 255 by 127, which is beyond 16 bits after two of them."""
    weights = numpy_helper.from_array(np.full((64, 32), 127, np.int8), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [8, 64])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [8, 32])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": np.full((8, 64), 255, np.uint8)})[0]
    return bool((found != 64 * 255 * 127).any())


def clipped(target: Target) -> bool:
    """Whether files for `target` say something else here than they mean."""
    return clips() and target.activation == "uint8" and target.weight == "int8" and not target.reduce_range


def exact() -> Target:
    """The format of bytes that a processor like this one gets."""
    return Target(weight="uint8") if clips() else Target()
