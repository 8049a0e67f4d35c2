"""What every graph stage promises, whichever module in `compress/stages` it is: a file in, a better-or-equal-shaped file out.

Ports and dynamic axes stay, the result lies in the stage's own folder, the file it was given is not touched, the same call gives
the same bytes, and where a stage has nothing to do it says why.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import onnx
import pytest

from compress.context import Skipped, Target
from compress.plan import MODULE_STAGES, settings_class, stage_names
from compress.runtime import predictor
from compress.stages.quantize import Quantize
from tests.small_graphs import Attention, GlyphData, Mobile, Recurrent, built, context, exported

STAGES = [name for name in stage_names() if name != "export" and name not in MODULE_STAGES]
FROM_FLOAT = {"quantize", "four_bit", "fp16"}
SHORT = {"steps": 4, "batch_size": 16, "samples": 32, "patches": 256, "iterations": 5, "examples": 32, "val_limit": 32, "evaluations": 1}
NETS = {"recurrent": (Recurrent, (2,)), "mobile": (Mobile, (0,)), "attention": (Attention, (2,))}


def quick(name):
    """The stage's own defaults, but for how long it works."""
    settings = settings_class(name)()
    return replace(settings, **{item.name: SHORT[item.name] for item in fields(settings) if item.name in SHORT})


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Every network as a float and as a quantized file, with its data."""
    folder, made = tmp_path_factory.mktemp("given"), {}
    for name, (kind, lengths) in NETS.items():
        data = GlyphData(lengths)
        graph = exported(built(kind), data, folder / name / "float" / "model.onnx")
        made[name] = graph, Quantize(method="minmax", samples=32).apply(graph, context(folder / name / "quantize", data)), data
    return made


@pytest.fixture(scope="module")
def outcomes(given, tmp_path_factory):
    """Each stage on each network, twice: the file, or the reason why there is none."""
    return {
        (stage, net): [outcome(stage, given[net], tmp_path_factory.mktemp(stage)) for _ in range(2)] for stage in STAGES for net in NETS
    }


def outcome(stage, files, folder):
    graph, quantized, data = files
    target = Target(precision="fp16") if stage == "fp16" else Target()
    try:
        return quick(stage).apply(
            graph if stage in FROM_FLOAT else quantized, context(folder / stage, data, target=target, float_graph=graph)
        )
    except Skipped as reason:
        return str(reason)


def test_there_are_graph_stages_to_judge():
    assert {"quantize", "equalize", "adaround", "qat", "four_bit", "fp16"} <= set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("net", NETS)
def test_it_gives_a_file_in_its_own_folder_or_a_reason(outcomes, stage, net):
    found = outcomes[stage, net][0]
    if isinstance(found, str):
        assert len(found) > 20 and (net == "attention" or (stage, net) == ("four_bit", "mobile")), "convolutions have no products"
    else:
        assert found.name == "model.onnx" and found.parent.name == stage
        assert not list(found.parent.rglob("*.part"))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("net", NETS)
def test_the_same_call_gives_the_same_bytes(outcomes, stage, net):
    first, second = outcomes[stage, net]
    assert first == second if isinstance(first, str) else first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("net", NETS)
def test_ports_and_free_axes_stay(given, outcomes, stage, net):
    found = outcomes[stage, net][0]
    if isinstance(found, str):
        return
    before, after = (onnx.load(path).graph for path in (given[net][0], found))
    assert list(before.input) == list(after.input)
    assert [(port.name, port.type.tensor_type.elem_type) for port in before.output] == [
        (port.name, port.type.tensor_type.elem_type) for port in after.output
    ]
    shapes = ((1, 16), (3, 16)) if net == "mobile" else ((1, 16), (3, 48))
    for batch, width in shapes:
        feed = {"image": np.zeros((batch, 1, 16, width), np.float32)}
        assert predictor(found)(feed)["logits"].shape == predictor(given[net][0])(feed)["logits"].shape


@pytest.mark.parametrize("stage", STAGES)
def test_what_it_is_given_is_not_touched(given, tmp_path, stage):
    files = given["mobile"]
    folders = {path.parent for path in files[:2]}
    before = {path: path.read_bytes() for folder in folders for path in folder.rglob("*.onnx")}
    outcome(stage, files, tmp_path)
    assert {path: path.read_bytes() for folder in folders for path in folder.rglob("*.onnx")} == before
