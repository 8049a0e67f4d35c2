"""Timing, noise and profiles. No test waits for time to pass or judges how fast this machine is: the clocks are made up."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tasks_for_tests import TASK, tiny_module

from compress import profile as profiles
from compress.context import Silent, Target
from compress.export import export
from compress.profile import Measured, Recorded, by_operators, compare, fingerprint, profile
from compress.target import target_for
from compress.timing import FEWEST_CALLS, MOST_CALLS, SHORTEST, interleaved, low, noise, ratio, summary
from rules.facts import Device
from rules.problems import Exit, Problem


class Workshop:
    """A machine whose clock moves only when work is done: `costs` in seconds of wall and processor time a call."""

    def __init__(self, costs: dict[str, float], *, waiting: float = 0.0) -> None:
        self.costs, self.waiting = costs, waiting
        self.wall = self.cpu = 0.0
        self.done: list[str] = []

    def clock(self) -> tuple[float, float]:
        return self.wall, self.cpu

    def calls(self) -> dict[str, Any]:
        return {name: lambda name=name: self.work(name) for name in self.costs}

    def work(self, name: str) -> None:
        self.done.append(name)
        self.cpu += self.costs[name]
        self.wall += self.costs[name] + self.waiting


# -- interleaving --------------------------------------------------------------------------------------------------------


def test_every_round_has_one_block_of_each_and_the_order_changes() -> None:
    shop = Workshop({"a": 1e-3, "b": 1e-3, "c": 1e-3})
    interleaved(shop.calls(), rounds=40, block_ms=0.5, clock=shop.clock)
    blocks = shop.done[12::FEWEST_CALLS]  # after four warm-up calls each
    rounds = [tuple(blocks[start : start + 3]) for start in range(0, len(blocks), 3)]
    assert len(rounds) == 40 and all(sorted(entry) == ["a", "b", "c"] for entry in rounds)
    assert len(set(rounds)) == 6


def test_the_same_seed_gives_the_same_order() -> None:
    shops = [Workshop({"a": 1e-3, "b": 1e-3}) for _ in range(2)]
    for shop in shops:
        interleaved(shop.calls(), rounds=20, clock=shop.clock, seed=4)
    assert shops[0].done == shops[1].done


def test_a_block_has_as_many_calls_of_each_enough_for_the_slowest_to_fill_it() -> None:
    for costs, calls in (((0.11e-3, 0.05e-3), 5), ((0.11e-3, 20e-3), FEWEST_CALLS), ((1e-9, 1e-9), MOST_CALLS)):
        shop = Workshop(dict(zip("ab", costs, strict=True)))
        found = interleaved(shop.calls(), rounds=20, block_ms=0.5, clock=shop.clock)
        assert [found[name].wall_ms.shape for name in "ab"] == [(20, calls)] * 2


def test_one_disturbed_warm_up_call_does_not_change_the_blocks() -> None:
    shop = Workshop({"a": 0.11e-3})
    spikes = iter([0, 0, 0.1, *[0] * 1000])

    def call() -> None:
        shop.work("a")
        shop.wall += next(spikes)

    assert interleaved({"a": call}, rounds=20, block_ms=0.5, clock=shop.clock)["a"].wall_ms.shape == (20, 5)


def test_slow_calls_get_fewer_rounds_but_never_too_few() -> None:
    shop = Workshop({"a": 0.03, "b": 0.0695})
    assert len(interleaved(shop.calls(), rounds=120, seconds=6, clock=shop.clock)["a"].wall_ms) == 20
    assert len(interleaved(shop.calls(), rounds=120, seconds=0.1, clock=shop.clock)["a"].wall_ms) == SHORTEST


def test_both_clocks_are_kept_and_one_thread_is_judged_by_its_own_time() -> None:
    shop = Workshop({"a": 1e-3}, waiting=4e-3)
    found = interleaved(shop.calls(), rounds=20, clock=shop.clock)["a"]
    np.testing.assert_allclose(found.wall_ms, 5.0)
    np.testing.assert_allclose(found.judged(alone=True), 1.0)
    np.testing.assert_allclose(found.judged(alone=False), 5.0)


def test_warm_up_is_not_timed() -> None:
    shop = Workshop({"a": 1e-3})
    once = itertools.count()

    def call() -> None:
        shop.wall += 1.0 if next(once) < 2 else 1e-3

    assert interleaved({"a": call}, rounds=20, clock=shop.clock)["a"].wall_ms.max() == pytest.approx(1.0)


# -- judging -------------------------------------------------------------------------------------------------------------


def samples(level: float, *, spikes: float = 0.0, seed: int = 0, rounds: int = 60) -> np.ndarray:
    """(rounds, 3) times: a floor with a little jitter, and now and then a disturbance that only ever adds."""
    rng = np.random.default_rng(seed)
    times = level * (1 + 0.005 * rng.random((rounds, 3)))
    return times + level * spikes * (rng.random((rounds, 3)) < 0.5) * rng.exponential(1, (rounds, 3))


def test_a_real_difference_survives_disturbances() -> None:
    found = ratio(samples(0.8, spikes=2, seed=1), samples(1.0, spikes=2, seed=2))
    assert found["value"] == pytest.approx(0.8, abs=0.01)
    assert found["low"] <= found["value"] <= found["high"] < 0.85


def test_identical_things_are_not_called_noisy_when_disturbances_spare_the_fastest_calls() -> None:
    found = noise(samples(1.0, spikes=2, seed=1), samples(1.0, spikes=2, seed=2), bound=0.05)
    assert not found["too_noisy"] and found["spread"] < 0.02


def test_a_machine_that_never_holds_still_is_too_noisy() -> None:
    rng = np.random.default_rng(0)
    found = noise(rng.lognormal(0, 0.8, (15, 1)), rng.lognormal(0, 0.8, (15, 1)), bound=0.05)
    assert found["too_noisy"] and found["spread"] > found["bound"]


def test_a_copy_that_differs_beyond_the_bound_is_too_noisy() -> None:
    assert noise(samples(1.10, seed=1), samples(1.0, seed=2), bound=0.05)["too_noisy"]
    assert not noise(samples(1.02, seed=1), samples(1.0, seed=2), bound=0.05)["too_noisy"]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(0.2, 5))
def test_a_ratio_scales_with_its_sides_and_lies_in_its_interval(seed: int, level: float, factor: float) -> None:
    before = samples(level, spikes=1, seed=seed)
    found = ratio(before * factor, before)
    assert found["value"] == pytest.approx(factor)
    assert found["low"] <= found["value"] * (1 + 1e-9) and found["value"] <= found["high"] * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.001, 1000), min_size=2, max_size=40))
def test_a_summary_is_ordered(times: list[float]) -> None:
    found = list(summary(np.array(times)).values())
    assert found == sorted(found)


def test_the_low_time_ignores_slow_calls_and_slow_rounds() -> None:
    times = np.full((40, 4), 1.0)
    times[:, 1:] = 9.0
    times[20:] *= 3
    assert low(times) == 1.0


# -- profiles ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("profile")
    sizes = {"small": {"channels": 8, "hidden": 8}, "large": {"channels": 32, "hidden": 32}}
    return {name: export(tiny_module(**size), TASK.open(), folder / f"{name}.onnx", target=Target()) for name, size in sizes.items()}


@pytest.fixture(scope="module")
def profiled(graphs: dict[str, Path]) -> dict[str, Any]:
    return profile(graphs["small"], TASK.open().probes(), reference=graphs["large"], rounds=20)


def test_a_profile_has_every_part_and_survives_json(profiled: dict[str, Any], graphs: dict[str, Path]) -> None:
    assert json.loads(json.dumps(profiled)) == profiled
    assert profiled["schema_version"] == 1 and profiled["headline"] == "w64" and list(profiled["probes"]) == ["w64", "w128"]
    assert profiled["file"]["size_bytes"] == graphs["small"].stat().st_size and profiled["reference"]["name"] == "large.onnx"
    probe = profiled["probes"]["w64"]
    assert list(probe["wall_ms"]) == ["min", "p10", "p50", "p90", "p99"] and probe["shapes"] == {"image": [1, 1, 32, 64]}
    assert probe["ratio"]["rounds"] == 20 and probe["noise"]["bound"] == profiles.NOISE_BOUND
    assert set(profiled["cold"]) == {"import_ms", "load_ms", "first_ms", "model_bytes", "running_bytes", "peak_bytes"}
    assert profiled["cold"]["peak_bytes"]["median"] > profiled["cold"]["model_bytes"]["median"]
    assert profiled["too_noisy"] == any(entry["noise"]["too_noisy"] for entry in profiled["probes"].values())


def test_the_shares_of_the_operators_add_up_and_name_real_operators(profiled: dict[str, Any]) -> None:
    assert sum(row["share"] for row in profiled["operators"]) == pytest.approx(1)
    assert {"Conv", "LSTM"} <= {row["op"] for row in profiled["operators"]}
    assert [row["ms"] for row in profiled["operators"]] == sorted((row["ms"] for row in profiled["operators"]), reverse=True)


def test_what_was_timed_is_said_in_words(profiled: dict[str, Any]) -> None:
    for words in ("session.run", "1 thread", "interleaved", "processor time", "bootstrap"):
        assert words in profiled["what"]


def test_without_a_reference_there_is_no_ratio(graphs: dict[str, Path]) -> None:
    probes = {"w64": TASK.open().probes()["w64"]}
    found = profile(graphs["small"], probes, rounds=15)
    assert found["reference"] is None and found["probes"]["w64"]["ratio"] is None and found["probes"]["w64"]["noise"]["spread"] >= 0


def test_progress_hears_of_every_probe(graphs: dict[str, Path]) -> None:
    heard: list[str] = []

    class Ear(Silent):
        def start(self, what: str, total: int) -> None:
            heard.append(what)

    profile(graphs["small"], TASK.open().probes(), rounds=15, progress=Ear())
    assert [what.split()[-1] for what in heard] == ["w64", "w128"]


def test_a_probe_that_lacks_an_input_is_refused(graphs: dict[str, Path]) -> None:
    with pytest.raises(Problem, match="'image'") as caught:
        profile(graphs["small"], {"w64": {"x": np.zeros(1)}})
    assert caught.value.code == Exit.INPUT
    with pytest.raises(Problem, match="no probes"):
        profile(graphs["small"], {})


# -- comparing two profiles ----------------------------------------------------------------------------------------------


def made(
    low_ms: float, *, against: float | None = None, cpu: str = "chip", reference: str = "r", threads: int = 1, noisy: bool = False
) -> dict[str, Any]:
    probe = {"low_ms": low_ms, "ratio": {"value": low_ms / against} if against else None}
    device = {"cpu": cpu, "fingerprint": cpu}
    return {
        "device": device,
        "threads": threads,
        "provider": "CPUExecutionProvider",
        "too_noisy": noisy,
        "reference": {"sha256": reference} if against else None,
        "probes": {"p": probe},
    }


def test_a_common_reference_cancels_what_differs_between_two_runs() -> None:
    found = compare(made(2.0, against=4.0), made(3.0, against=3.0))  # the machine was a third slower the first time
    assert found["comparable"] and found["ratios"] == {"p": 0.5}


def test_without_a_common_reference_the_times_themselves_are_compared() -> None:
    assert compare(made(2.0), made(4.0))["ratios"] == {"p": 0.5}
    assert compare(made(2.0, against=4.0, reference="one"), made(4.0, against=4.0, reference="two"))["ratios"] == {"p": 0.5}


@pytest.mark.parametrize(("other", "why"), [({"cpu": "elsewhere"}, "devices"), ({"threads": 2}, "threads"), ({"noisy": True}, "noisy")])
def test_profiles_that_do_not_belong_together_get_no_ratio(other: dict[str, Any], why: str) -> None:
    found = compare(made(1.0, **other), made(1.0))
    assert not found["comparable"] and why in found["why"] and found["ratios"] == {}


def test_the_fingerprint_changes_with_the_machine_and_the_runtime_only() -> None:
    device = {
        "cpu": "a",
        "machine": "x86_64",
        "cores": 2,
        "isa": ["avx2"],
        "onnxruntime": "1.32",
        "providers": ["CPU"],
        "python": "3.11",
        "torch": None,
    }
    assert fingerprint(device) == fingerprint({**device, "python": "3.13", "torch": "2.13"})
    assert (
        len(
            {fingerprint({**device, key: value}) for key, value in {"cpu": "b", "cores": 4, "isa": [], "onnxruntime": "1.31"}.items()}
            | {fingerprint(device)}
        )
        == 5
    )


# -- where stages get latencies from -------------------------------------------------------------------------------------


def test_measured_latencies_are_positive_and_cover_every_graph(graphs: dict[str, Path]) -> None:
    found = Measured(rounds=15).paired(graphs, TASK.open().probes()["w64"], threads=1)
    assert set(found) == {"small", "large"} and all(value > 0 for value in found.values())


def test_recorded_latencies_come_from_the_table_or_the_function() -> None:
    files = {"a": Path("x/one.onnx"), "b": Path("y/two.onnx")}
    assert Recorded({"one.onnx": 1.5, "two.onnx": 2.5}).paired(files, {}, threads=1) == {"a": 1.5, "b": 2.5}
    assert Recorded(lambda path, feeds: len(path.name)).paired(files, {}, threads=1) == {"a": 8.0, "b": 8.0}
    with pytest.raises(KeyError):
        Recorded({}).paired(files, {}, threads=1)


def test_the_made_up_latency_repeats_itself_and_grows_with_channels_and_input(graphs: dict[str, Path]) -> None:
    narrow, wide = TASK.open().probes().values()
    assert by_operators(graphs["small"], narrow) == by_operators(graphs["small"], narrow)
    assert by_operators(graphs["small"], narrow) < by_operators(graphs["large"], narrow) < by_operators(graphs["large"], wide)


def test_the_made_up_latency_finds_integers_faster(graphs: dict[str, Path], tmp_path: Path) -> None:
    from test_compress_verify import quantized

    assert by_operators(quantized(graphs["large"], tmp_path), TASK.open().probes()["w64"]) < by_operators(
        graphs["large"], TASK.open().probes()["w64"]
    )


# -- targets -------------------------------------------------------------------------------------------------------------


def device(**changes: Any) -> Device:
    plain = Device("board", "A board", "cpu", ("aarch64",), 4, 2**30, ("onnxruntime-cpu",), ("fp32", "int8"), "source")
    return replace(plain, **changes)


@pytest.mark.parametrize(
    ("integer_format", "expected"),
    [
        ("u8s8", ("uint8", "int8", False)),
        ("u8u8", ("uint8", "uint8", False)),
        ("u8s8-reduced", ("uint8", "int8", True)),
        ("s8s8", ("int8", "int8", False)),
    ],
)
def test_the_devices_integer_format_decides_the_numbers(integer_format: Any, expected: tuple[str, str, bool]) -> None:
    found = target_for(device(integer_format=integer_format))
    assert (found.activation, found.weight, found.reduce_range) == expected


def test_a_target_takes_versions_and_alignment_from_its_device() -> None:
    found = target_for(device(opset=13, ir_version=7, align=4), threads=3)
    assert (found.name, found.precision, found.opset, found.ir_version, found.align, found.threads) == ("board", "int8", 13, 7, 4, 3)


def test_only_this_machine_counts_as_measured_here() -> None:
    assert target_for(device(name="this-machine")).measured_here
    assert not target_for(device()).measured_here


def test_a_gpu_gets_half_precision_and_is_measured_only_where_its_provider_is() -> None:
    found = target_for(device(kind="gpu", isa=("sm0",), precisions=("fp32", "fp16")))
    assert found.precision == "fp16" and not found.measured_here


def test_a_precision_the_device_lacks_is_refused_with_those_it_has() -> None:
    assert target_for(device(), precision="fp32").precision == "fp32"
    with pytest.raises(Problem, match=r"no fp16.*fp32, int8"):
        target_for(device(), precision="fp16")
