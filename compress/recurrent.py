"""Recurrent layers made dynamic int8: weights stored as int8, activations quantized at every call, gates and state float.

onnxruntime has one such kernel, DynamicQuantizeLSTM; a GRU has none and stays float. The rest of the graph is not touched
(the runtime's own converter would rewrite every Gemm beside it, quantized ones included).
Source: onnxruntime contrib operators, com.microsoft.DynamicQuantizeLSTM (docs/ContribOperators.md). No torch.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compress.graph.compact import drop_unused

DOMAIN = "com.microsoft"
INPUTS = 8  # x, w, r, bias, sequence lengths, h, c, peepholes


def dynamic_lstm(model: onnx.ModelProto, *, reduced: bool) -> onnx.ModelProto:
    """`model` with every LSTM of constant weights made dynamic int8, in place.

    `reduced` keeps weights to 7 bits, for processors whose 16-bit sums saturate.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    changed = False
    for index, node in enumerate(model.graph.node):
        if node.op_type == "LSTM" and all(name in constants for name in node.input[1:3]) and not _batch_first(node):
            model.graph.node[index].CopyFrom(_converted(node, model, constants, reduced))
            changed = True
    if changed:
        drop_unused(model)
        if not any(entry.domain == DOMAIN for entry in model.opset_import):
            model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return model


def _batch_first(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "layout" and attribute.i for attribute in node.attribute)


def _converted(node: onnx.NodeProto, model: onnx.ModelProto, constants: dict[str, onnx.TensorProto], reduced: bool) -> onnx.NodeProto:
    inputs = [*node.input, *[""] * INPUTS][:INPUTS]
    scales: list[str] = []
    for slot in (1, 2):
        name = inputs[slot]
        if f"{name}_quantized" not in constants:
            for tensor in _quantized(name, numpy_helper.to_array(constants[name]), reduced):
                model.graph.initializer.append(tensor)
                constants[tensor.name] = tensor
        inputs[slot] = f"{name}_quantized"
        scales += [f"{name}_scale", f"{name}_zero_point"]
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute if item.name != "layout"}
    return helper.make_node("DynamicQuantizeLSTM", [*inputs, *scales], list(node.output), f"{node.name}_quant", domain=DOMAIN, **attributes)


def _quantized(name: str, weights: np.ndarray, reduced: bool) -> list[onnx.TensorProto]:
    """(directions, 4 h, i) float → (directions, i, 4 h) int8 with one scale a direction, symmetric."""
    largest = np.abs(weights).max(axis=(1, 2))
    scale = np.where(largest > 0, largest / np.float32(64 if reduced else 127), 1).astype(np.float32)
    rounded = np.clip(np.round(weights / scale[:, None, None]), -127, 127).astype(np.int8)
    return [
        numpy_helper.from_array(np.ascontiguousarray(rounded.transpose(0, 2, 1)), f"{name}_quantized"),
        numpy_helper.from_array(scale, f"{name}_scale"),
        numpy_helper.from_array(np.zeros(len(scale), np.int8), f"{name}_zero_point"),
    ]
