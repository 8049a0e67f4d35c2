"""A file without what only its makers needed: inferred shapes, notes, and tensor names as long as a sentence.

In a quantized file of a few hundred kilobytes names alone are several percent. Nodes keep their names, for profiles and
reports; inputs and outputs keep theirs, for callers. No torch.
"""

from __future__ import annotations

import onnx


def compact(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with short tensor names and no inferred shapes, in place. Graphs with subgraphs are left alone."""
    graph = model.graph
    if any(
        attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for node in graph.node for attribute in node.attribute
    ):
        return model
    kept = {value.name for value in [*graph.input, *graph.output]}
    short: dict[str, str] = {"": ""} | {name: name for name in kept}

    def renamed(name: str) -> str:
        if name not in short:
            short[name] = _free(len(short), kept)
        return short[name]

    for node in graph.node:
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
        node.doc_string = ""
    for tensor in graph.initializer:
        tensor.name = renamed(tensor.name)
    del graph.value_info[:]
    return model


def _free(number: int, taken: set[str]) -> str:
    name = f"t{number:x}"
    return name if name not in taken else f"{name}_"


def drop_unused(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` without initializers that nobody reads, in place."""
    used = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model
