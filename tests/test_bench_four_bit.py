"""The bench of four bits: neural-compressor's numbers reach the file exactly as its torch model computes with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from advisor.architectures import gpt
from advisor.tasks.text_generation import TASK
from bench.four_bit import BLOCK, matched, peer
from compress.context import Target
from compress.export import export
from compress.graph.reading import read
from compress.quantization import prepare
from compress.runtime import predictor
from compress.stages.four_bit import products, replaced


def test_what_neural_compressor_rounded_is_packed_as_it_is(tmp_path: Path) -> None:
    data: Any = TASK.open(None, settings={"train": 8, "val": 2, "test": 2})
    torch.manual_seed(0)
    model = gpt.build(vocabulary=data.given["vocabulary"], length=data.given["length"], width=2 * BLOCK, heads=2, layers=2).eval()
    base = prepare(export(model, data, tmp_path / "model.onnx", target=Target()), tmp_path / "prepared.onnx")
    passages = [batch.inputs["ids"] for batch in data.batches("train", batch_size=1, shuffle=True, limit=8)]
    net, rounded = peer(model, passages, tmp_path)
    graph = read(base)
    blocks = matched(products(graph), graph, rounded)
    assert len(blocks) == len(rounded) == 8  # four products in each of two layers; the head stays float
    packed = replaced(onnx.load(str(base)), blocks)
    for attribute in [item for node in packed.graph.node for item in node.attribute if item.name == "accuracy_level"]:
        attribute.i = 1  # sums in float, so that only the weights can differ
    onnx.save(packed, str(tmp_path / "packed.onnx"))
    ids = passages[0]
    with torch.no_grad():
        theirs = net(torch.from_numpy(ids)).numpy()
    ours, float_ = (predictor(path)({"ids": ids})["logits"] for path in (tmp_path / "packed.onnx", base))
    assert np.abs(ours - theirs).max() < 1e-4 < 0.01 < np.abs(float_ - theirs).max()
