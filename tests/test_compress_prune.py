"""Pruning: couplings are followed or refused, importance orders channels, widths follow the latencies, results reload."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tasks_for_tests import TASK, BySize, context, tiny_module
from torch import Tensor, nn

from compress import channels
from compress.context import Silent, Skipped, Target
from compress.export import export
from compress.importance import lost, magnitude, removed, taylor
from compress.journal import Journal
from compress.profile import Recorded, by_operators
from compress.stages.prune import Prune
from compress.weights import ModelSpec, load, save
from compress.widths import next_width

# -- nets, each with couplings of its own ----------------------------------------------------------------------------------


class Recurrent(nn.Module):
    """Convolution → recurrent layers → head, over (b, 4, t)."""

    def __init__(self, kind: Any = nn.LSTM, **settings: Any) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 16, 3, padding=1)
        self.cell = kind(16, 12, **settings)
        self.head = nn.Linear(24 if settings.get("bidirectional") else 12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(self.conv(x).relu().permute(2, 0, 1))[0])


class Stacked(nn.Module):
    """Two LSTMs one after the other, with a sum around the first: (t, b, 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.inward = nn.Linear(6, 16)
        self.first = nn.LSTM(16, 8, bidirectional=True)
        self.second = nn.LSTM(16, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inward(x)
        return self.head(self.second(x + self.first(x)[0])[0])


class LastState(Recurrent):
    """What is used of the LSTM is its last hidden state."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(self.conv(x).permute(2, 0, 1))[1][0][0])


class Joined(nn.Module):
    """A residual sum, a depthwise convolution, a concatenation and a flattening: (b, 3, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.depth = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.point = nn.Conv2d(16, 16, 1)
        self.merge = nn.Conv2d(32, 8, 1)
        self.head = nn.Linear(8 * 64, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        y = self.point(self.depth(x).relu()) + x
        return self.head(self.merge(torch.cat([y, x], 1)).relu().flatten(1))


class Grouped(nn.Module):
    """A convolution in two groups: (b, 3, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 1)
        self.group = nn.Conv2d(16, 16, 3, groups=2)
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.group(self.stem(x).relu()).relu()).mean((2, 3))


class Shuffled(Grouped):
    """As `Grouped`, with the channel shuffle that a trace cannot see."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.group(self.stem(x).relu())
        b, c, h, w = x.shape
        return self.head(x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w).relu()).mean((2, 3))


class HardCoded(Joined):
    """A size written into `forward`."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        return self.head(self.merge(torch.cat([x, x], 1)).relu().view(-1, 512))


SEQUENCE, STEPS, IMAGE = (2, 4, 9), (7, 2, 6), (2, 3, 8, 8)
SOUND: dict[str, tuple[Any, tuple[int, ...], set[str]]] = {
    "lstm": (Recurrent, SEQUENCE, {"conv", "cell"}),
    "bidirectional": (lambda: Recurrent(bidirectional=True), SEQUENCE, {"conv", "cell"}),
    "two layers": (lambda: Recurrent(num_layers=2, bidirectional=True), SEQUENCE, {"conv", "cell"}),
    "without bias": (lambda: Recurrent(bias=False), SEQUENCE, {"conv", "cell"}),
    "gru": (lambda: Recurrent(nn.GRU, bidirectional=True), SEQUENCE, {"conv", "cell"}),
    "last state": (LastState, SEQUENCE, {"conv", "cell"}),
    "stacked": (Stacked, STEPS, {"inward", "second"}),
    "joined": (Joined, IMAGE, {"stem", "merge"}),
    "grouped": (Grouped, IMAGE, {"stem", "group"}),
}


def two_inputs(shape: tuple[int, ...]) -> tuple[tuple[Tensor], tuple[Tensor]]:
    generator = torch.Generator().manual_seed(5)
    return (torch.randn(shape, generator=generator),), (torch.randn(shape, generator=generator),)


def made(build: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().eval()


# -- couplings -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(SOUND))
def test_cutting_silent_channels_changes_nothing(name: str) -> None:
    build, shape, expected = SOUND[name]
    model, (inputs, others) = made(build), two_inputs(shape)
    groups, refused = channels.find(model, inputs)
    sound = [group for group in groups if not channels.unsound(model, group, inputs, others)]
    assert {group.name for group in sound} == expected and not refused
    gone = {group.name: list(range(0, group.width, 2)) for group in sound}  # all groups at once
    silent, narrow = channels.silence(model, sound, gone), channels.cut(model, sound, gone)
    with torch.no_grad():
        torch.testing.assert_close(narrow(*inputs), silent(*inputs), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(narrow(*inputs), model(*inputs), rtol=1e-3, atol=1e-4)  # what was cut was felt
    assert sum(p.numel() for p in narrow.parameters()) < 0.75 * sum(p.numel() for p in model.parameters())


def test_the_seam_between_convolutions_and_recurrent_layers_is_cut_on_both_sides() -> None:
    model = made(lambda: Recurrent(bidirectional=True))
    groups, _ = channels.find(model, two_inputs(SEQUENCE)[0])
    narrow = channels.cut(model, groups, {"conv": [0, 5, 15], "cell": [1, 2]})
    assert narrow.conv.out_channels == narrow.cell.input_size == 13
    assert narrow.cell.hidden_size == 10 and narrow.head.in_features == 20
    keep = [row for row in range(12) if row not in (1, 2)]
    rows = torch.tensor([row + 12 * gate for gate in range(4) for row in keep])
    torch.testing.assert_close(narrow.cell.weight_hh_l0_reverse, model.cell.weight_hh_l0_reverse[rows][:, keep])


def test_a_channel_shuffle_is_refused() -> None:
    model, (inputs, others) = made(Shuffled), two_inputs(IMAGE)
    reasons = {group.name: channels.unsound(model, group, inputs, others) for group in channels.find(model, inputs)[0]}
    assert "traced wrongly" in reasons["group"] and reasons["stem"] == ""


class Handing(nn.Module):
    """Some channels of every example are handed to the next in front of a convolution, as between the frames of a clip."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.first = nn.ModuleList([nn.Conv2d(16, 16, 3, padding=1) for _ in range(3)])
        self.second = nn.ModuleList([nn.Conv2d(16, 16, 3, padding=1) for _ in range(3)])
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for first, second in zip(self.first, self.second, strict=True):
            handed = torch.cat([x[:, :4].roll(1, 0), x[:, 4:8].roll(-1, 0), x[:, 8:]], 1)
            x = x + second(first(handed).relu())
        return self.head(x.mean((2, 3)))


def test_channels_that_are_cut_apart_and_joined_again_are_given_up_and_the_rest_is_cut() -> None:
    found, refused = channels.find(Handing().eval(), (torch.randn(4, 3, 8, 8),))
    assert "cut apart and joined again" in refused["stem"]
    assert {"first.0", "first.1", "first.2"} <= {group.name for group in found}
    assert channels.BasicGroup.add_dep.__qualname__.startswith("Group"), "Torch-Pruning is left as it was"


def test_a_size_written_into_forward_is_refused_and_the_rest_is_not() -> None:
    model, (inputs, others) = made(HardCoded), two_inputs(IMAGE)
    reasons = {group.name: channels.unsound(model, group, inputs, others) for group in channels.find(model, inputs)[0]}
    assert "breaks without them" in reasons["merge"] and reasons["stem"] == ""


def test_what_the_model_puts_out_is_never_cut() -> None:
    model, (inputs, others) = made(Recurrent), two_inputs(SEQUENCE)
    groups, _ = channels.find(model, inputs)
    assert all(channels.unsound(model, group, inputs, others) for group in groups if group.name == "head")


def test_a_model_that_ignores_its_input_shows_nothing_and_is_refused() -> None:
    model, (inputs, others) = made(Recurrent), two_inputs(SEQUENCE)
    with torch.no_grad():
        model.head.weight.zero_()
    group = next(group for group in channels.find(model, inputs)[0] if group.name == "conv")
    assert "nothing can be shown" in channels.unsound(model, group, inputs, others)


def test_finding_and_cutting_leave_the_model_as_it_was() -> None:
    model, (inputs, _) = made(Stacked), two_inputs(STEPS)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    groups, _ = channels.find(model, inputs)
    channels.silence(model, groups, {"second": [0]})
    channels.cut(model, groups, {"second": [0]})
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert "forward" not in vars(model.first)


# -- importance ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["taylor", "magnitude"])
def test_a_channel_that_nothing_listens_to_is_the_least_important(tmp_path: Path, kind: str) -> None:
    model, stage = tiny_module(), context(tmp_path)
    inputs = tuple(torch.from_numpy(array) for array in next(iter(stage.data.batches("train", batch_size=2))).inputs.values())
    groups, _ = channels.find(model, inputs)
    groups = [group for group in groups if group.name != "head"]
    deaf = channels.silence(model, groups, {group.name: [3] for group in groups})
    if kind == "magnitude":  # what makes it must be nothing too
        with torch.no_grad():
            deaf.conv1.weight[3], deaf.conv2.weight[3], deaf.collapse.weight[3] = 0, 0, 0
            deaf.norm1.weight[3], deaf.norm2.weight[3] = 0, 0
            for suffix in ("l0", "l0_reverse"):
                getattr(deaf.lstm, f"weight_ih_{suffix}").view(4, 16, -1)[:, 3] = 0
    scores = taylor(deaf, groups, stage, batches=4) if kind == "taylor" else magnitude(deaf, groups)
    for group in groups:
        assert scores[group.name].shape == (group.width,)
        assert scores[group.name][3] == scores[group.name].min() == 0 < scores[group.name].max()


def test_importance_is_the_squared_change_of_the_loss_by_a_gate(tmp_path: Path) -> None:
    """Against finite differences of a gate put by hand in front of the head."""
    model, stage = tiny_module().double().eval(), context(tmp_path)
    batch = next(iter(stage.data.batches("train", batch_size=4, seed=0, shuffle=True)))
    image, targets = (
        torch.from_numpy(batch.inputs["image"]).double(),
        {key: torch.from_numpy(value) for key, value in batch.targets.items()},
    )

    class Wide(type(stage.data)):  # type: ignore[misc]
        def batches(self, *args: Any, **kwargs: Any) -> Any:
            yield type(batch)({"image": image.numpy()}, batch.targets, batch.ids)

    stage.data = Wide(stage.data.counts, stage.data.noise)
    groups, _ = channels.find(tiny_module(), (image.float()[:2],))
    conv = next(group for group in groups if group.name == "conv1")
    scores = taylor(model, [conv], stage, batches=1)["conv1"]

    def loss(unit: int, gate: float) -> float:
        weight = model.conv2.weight.data
        kept = weight[:, unit].clone()
        weight[:, unit] *= gate
        with torch.no_grad():
            found = float(TASK.loss(model(image).double(), targets))
        weight[:, unit] = kept
        return found

    for unit in scores.argsort()[-3:].tolist():  # those that the float32 loss can resolve
        slope = (loss(unit, 1.1) - loss(unit, 0.9)) / 0.2
        assert scores[unit] == pytest.approx(slope**2, rel=0.1)


def test_the_least_important_go_first_and_ties_go_by_position() -> None:
    group = channels.Group("a", False, (channels.Cut("a", "out", tuple((index,) for index in range(5))),))
    scores = {"a": np.array([3.0, 1.0, 2.0, 1.0, 9.0])}
    assert removed([group], scores, {"a": 3}) == {"a": [1, 3]}
    assert removed([group], scores, {"a": 5}) == {}
    assert lost(scores["a"], 5, 3) == pytest.approx(2.0) and lost(scores["a"], 3, 2) == pytest.approx(2.0)


# -- widths --------------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 1024), st.integers(1, 1024), st.sampled_from([4, 8, 16, 32]), st.integers(1, 64))
def test_the_next_width_is_narrower_aligned_and_never_below_the_least(now: int, more: int, align: int, least: int) -> None:
    width = next_width(now, now + more, align=align, least=least)
    if width is not None:
        assert least <= width < now and width % min(align, 8) == 0


@pytest.mark.parametrize(
    ("now", "full", "least", "expected"),
    [(96, 96, 16, 80), (45, 64, 16, 32), (16, 64, 8, 8), (16, 64, 16, None), (512, 512, 16, 448), (24, 24, 8, 16), (8, 8, 4, None)],
)
def test_widths_step_down_the_grid_and_by_eighths(now: int, full: int, least: int, expected: int | None) -> None:
    assert next_width(now, full, align=16, least=least) == expected


# -- the stage -----------------------------------------------------------------------------------------------------------


class Counting:
    """Made-up latencies that count how often they are asked for."""

    def __init__(self) -> None:
        self.asked = 0
        self.inner = Recorded(by_operators)

    def paired(self, graphs: Any, feeds: Any, *, threads: int) -> dict[str, float]:
        self.asked += 1
        return self.inner.paired(graphs, feeds, threads=threads)


QUICK = {"latency_ratio": 0.45, "looks": 2, "min_channels": 4, "importance_batches": 4, "recovery_epochs": 0}


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    """A net that has learnt a little, so that its outputs say something."""
    from compress.stages.train import Train

    return Train(epochs=4, lr=3e-3).apply(tiny_module(channels=32, hidden=32), context(tmp_path_factory.mktemp("net")))


def pruning(folder: Path, latencies: Any = None, **overrides: Any) -> Any:
    return context(folder, latencies=latencies or Recorded(by_operators), target=Target(align=8), **overrides)


def test_the_wanted_latency_is_reached_with_aligned_widths(net: nn.Module, tmp_path: Path) -> None:
    stage = pruning(tmp_path)
    narrow = Prune(**QUICK).apply(net, stage)
    probe = next(iter(stage.data.probes().values()))
    files = {
        name: export(module, stage.data, tmp_path / f"{name}.onnx", target=stage.target)
        for name, module in (("before", net), ("after", narrow))
    }
    assert by_operators(files["after"], probe) <= 0.45 * by_operators(files["before"], probe)
    assert all(size % 8 == 0 for size in (narrow.conv1.out_channels, narrow.conv2.out_channels, narrow.lstm.hidden_size))
    assert net.conv1.out_channels == net.lstm.hidden_size == 32  # the given module is untouched


def test_cuts_follow_the_latencies_and_not_the_sizes(net: nn.Module, tmp_path: Path) -> None:
    """Where only the LSTM's width costs time, only the LSTM is cut."""

    def by_lstm(path: Path, feeds: Any) -> float:
        import onnx

        return float(sum(tensor.dims[1] for tensor in onnx.load(str(path)).graph.initializer if len(tensor.dims) == 3))

    narrow = Prune(**QUICK).apply(net, pruning(tmp_path, Recorded(by_lstm)))
    assert narrow.lstm.hidden_size < 32 and narrow.conv1.out_channels == narrow.conv2.out_channels == 32


def test_a_resumed_search_repeats_its_choices_without_timing_anything(net: nn.Module, tmp_path: Path) -> None:
    first = Counting()
    whole = Prune(**QUICK).apply(net, pruning(tmp_path, first))
    steps = [key for key, _ in Journal(tmp_path / "journal.jsonl").items()]
    assert first.asked == len(steps) > 2
    lines = (tmp_path / "journal.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "journal.jsonl").write_text("".join(lines[:2]))  # killed after two steps
    second = Counting()
    resumed = Prune(**QUICK).apply(net, pruning(tmp_path, second))
    assert second.asked == len(steps) - 2
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in resumed.state_dict().items())


def test_every_choice_is_in_the_journal_with_what_it_rests_on(net: nn.Module, tmp_path: Path) -> None:
    Prune(**{**QUICK, "latency_ratio": 0.8}).apply(net, pruning(tmp_path))
    values = [json.loads(line)["value"] for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    ratios = [value["ratio"] for value in values if value["take"]]
    assert ratios[-1] <= 0.8 < min([1.0, *ratios[:-1]])  # no cut beyond the one that reaches what was asked
    for value in values:
        assert set(value) == {"take", "width", "ratio", "savings", "timed"}
        assert value["take"] is None or value["timed"][value["take"]] == value["width"]


def test_a_layer_gets_a_second_chance_after_one_unlucky_timing(net: nn.Module, tmp_path: Path) -> None:
    class Unlucky(Counting):
        def paired(self, graphs: Any, feeds: Any, *, threads: int) -> dict[str, float]:
            times = super().paired(graphs, feeds, threads=threads)
            return dict.fromkeys(times, 9.0) if self.asked == 1 else times

    narrow = Prune(**QUICK).apply(net, pruning(tmp_path, Unlucky()))
    assert sum(p.numel() for p in narrow.parameters()) < sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("measure", ["float", "int8"])
def test_candidates_are_timed_in_the_form_that_was_asked_for(net: nn.Module, tmp_path: Path, measure: str) -> None:
    import onnx

    seen: set[bool] = set()

    def quantized(path: Path, feeds: Any) -> float:
        seen.add(any(node.op_type == "DequantizeLinear" for node in onnx.load(str(path)).graph.node))
        return path.stat().st_size / 1e6

    Prune(**QUICK, measure=measure, max_steps=1).apply(net, pruning(tmp_path, Recorded(quantized)))
    assert seen == {measure == "int8"}


def test_where_no_cut_saves_time_the_stage_is_skipped(net: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(Skipped, match="no narrower layer is measurably faster"):
        Prune(**QUICK).apply(net, pruning(tmp_path, Recorded(lambda path, feeds: 1.0)))


def test_where_nothing_can_be_cut_the_stage_is_skipped_with_the_reasons(tmp_path: Path) -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(32, 5)

        def forward(self, image: Tensor) -> Tensor:
            return self.head(image.squeeze(1).transpose(1, 2))

    heard: list[str] = []

    class Ear(Silent):
        def say(self, line: str) -> None:
            heard.append(line)

    with pytest.raises(Skipped, match="head"):
        Prune(**QUICK).apply(Bare(), context(tmp_path, progress=Ear()))
    assert heard == ["prune: head stays as it is: the outputs are made of them"]


def test_a_pruned_net_is_a_spec_and_weights_and_reloads_to_the_same_outputs(net: nn.Module, tmp_path: Path) -> None:
    narrow = Prune(**QUICK).apply(net, pruning(tmp_path, BySize())).eval()
    spec = ModelSpec("tasks_for_tests:build", {"channels": 32, "hidden": 32})
    save(narrow, spec, tmp_path / "kept", "module")
    assert {path.suffix for path in (tmp_path / "kept").iterdir()} == {".safetensors", ".json"}
    again, _ = load(tmp_path / "kept", "module")
    image = torch.randn(2, 1, 32, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(again.eval()(image), narrow(image))
    assert again.lstm.hidden_size == narrow.lstm.hidden_size < 32


def test_recovery_lowers_the_loss_it_trains_on(net: nn.Module, tmp_path: Path) -> None:
    """The net before it was cut is the teacher here, because there is no other."""
    stage = pruning(tmp_path, BySize())
    batch = next(iter(stage.data.batches("val", batch_size=16)))
    image, targets = torch.from_numpy(batch.inputs["image"]), {key: torch.from_numpy(value) for key, value in batch.targets.items()}
    cut = Prune(**QUICK).apply(net, stage)
    back = Prune(**{**QUICK, "recovery_epochs": 3, "lr": 3e-3}).apply(net, stage)
    assert back.lstm.hidden_size == cut.lstm.hidden_size

    def cost(module: nn.Module) -> float:
        with torch.no_grad():
            return float(TASK.distil_loss(module.eval()(image), net.eval()(image), targets, temperature=2.0))

    assert cost(back) < cost(cut)
    assert {point["stage"] for point in stage.curves} == {"prune"}


@pytest.mark.parametrize(("key", "value"), [("latency_ratio", 1.0), ("latency_ratio", 0.0), ("looks", 0), ("align", -1), ("lr", 0.0)])
def test_settings_that_make_no_sense_are_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=key):
        Prune(**{key: value})
