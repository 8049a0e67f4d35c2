"""Calibration finds the prices a machine has, says how sure it is, and leaves a file that reads back."""

from __future__ import annotations

from math import exp, log
from random import Random

import numpy as np
import pytest

from advisor.this_machine import detect
from compress import calibrate, calibration_data
from compress.calibrate import FEWEST, cache_sizes, fit, rates, said, sheet_of
from compress.calibration_data import Row, files, opened, timed
from compress.context import Target
from compress.operators import operators_of
from rules.device_file import text
from rules.facts import Device, Operator
from rules.kernels import amounts, forecast
from rules.problems import Exit, Problem
from rules.reading import device as read_device
from rules.tables import Table

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")

CACHES = (1_048_576, 33_554_432)
TRUE = {"run": 4e-6, "node": 3e-7, "conv.macs": 2e-11, "conv.loads": 5e-12, "gemm.passes": 3e-11, "gemm.out": 2e-10, "Add.out": 4e-10}


def convolution(dice: Random) -> Operator:
    rows, inputs, outputs = dice.choice([64, 256, 1024]), 16 * dice.randint(1, 8), 16 * dice.randint(1, 8)
    size = 4 * inputs * outputs * 9
    return Operator(
        "Conv",
        rows * inputs * outputs * 9,
        size,
        4 * rows * inputs,
        4 * rows * outputs,
        "c",
        "float",
        rows,
        inputs,
        outputs,
        1,
        9,
        0,
        16,
        True,
    )


def product(dice: Random) -> Operator:
    rows, inputs, outputs = dice.randint(2, 64), 16 * dice.randint(1, 16), 16 * dice.randint(1, 16)
    return Operator(
        "Gemm", rows * inputs * outputs, 4 * inputs * outputs, 4 * rows * inputs, 4 * rows * outputs, "g", "float", rows, inputs, outputs
    )


def addition(dice: Random) -> Operator:
    values = 16 * dice.randint(1, 4096)
    return Operator("Add", 0, 0, 8 * values, 4 * values, "a", "float", values // 16)


def rows(count: int, *, noise: float = 0.0, seed: int = 0) -> list[Row]:
    """Nets of six kinds, whose time is what the true prices say, give or take the noise (log, one standard deviation)."""
    dice, found = Random(seed), []
    for number in range(count):
        net = tuple(make(dice) for make in (convolution, product, addition) for _ in range(dice.randint(1, 4)))
        seconds = sum(TRUE.get(name, 0.0) * amount for name, amount in amounts(net, CACHES).items())
        found.append(Row(f"net {number}", "cnn", f"kind {number % 6}", "fp32", net, seconds * exp(dice.gauss(0, noise))))
    return found


def test_the_prices_of_a_machine_are_found_from_whole_nets_alone() -> None:
    found = fit(rows(300), caches=CACHES)
    unseen = rows(100, seed=1)
    errors = [abs(forecast(row.operators, found, "fp32").mid / row.seconds - 1) for row in unseen]
    assert np.median(errors) < 0.03 and max(errors) < 0.15


def test_the_interval_holds_nine_of_ten_unseen_nets_and_is_no_wider_than_the_noise_asks() -> None:
    found = fit(rows(400, noise=0.15), caches=CACHES)
    told = [(forecast(row.operators, found, "fp32"), row.seconds) for row in rows(400, noise=0.15, seed=1)]
    held = np.mean([one.low <= seconds <= one.high for one, seconds in told])
    assert 0.84 < held < 0.96
    assert np.median([log(one.high / one.low) for one, _ in told]) < 4 * 0.15 * 1.645


def test_an_outlying_net_moves_no_price_by_much() -> None:
    sound = rows(300)
    spoilt = [
        Row(row.name, row.family, row.kind, row.precision, row.operators, row.seconds * (8 if number % 40 == 0 else 1))
        for number, row in enumerate(sound)
    ]
    before, after = fit(sound, caches=CACHES), fit(spoilt, caches=CACHES)
    moved = [abs(forecast(row.operators, after, "fp32").mid / forecast(row.operators, before, "fp32").mid - 1) for row in rows(50, seed=1)]
    assert np.median(moved) < 0.03


def test_an_operator_that_no_net_had_is_priced_as_its_like_and_widens_the_interval() -> None:
    found = fit(rows(200), caches=CACHES)
    known = convolution(Random(1))
    other = Operator("Mish", 0, 0, 2**22, 2**22, "m", "float", 1024)
    one, both = forecast([known], found, "fp32"), forecast([known, other], found, "fp32")
    assert both.unknown > 0 == one.unknown
    assert both.high / both.low > one.high / one.low


def test_the_device_file_of_a_calibration_reads_back_whole() -> None:
    found = fit(rows(120), caches=CACHES)
    here = detect()
    import tomllib
    from dataclasses import replace

    calibrated: Device = replace(here, rates=rates(found, here), kernels=found, notes=(said(found),))
    assert read_device(Table(tomllib.loads(text(calibrated)), "here.toml"), here.name) == calibrated
    assert {calibrated.rates[name].kind for name in ("fp32", "int8", "node")} == {"measured"}


def test_the_groups_left_out_are_the_same_in_every_run() -> None:
    one, other = sheet_of(rows(60), CACHES), sheet_of(list(reversed(rows(60))), CACHES)
    assert list(one.groups) == list(reversed(other.groups))


def test_too_few_nets_are_an_answer_and_no_device_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration_data, "make", lambda **_: [])
    monkeypatch.setattr(calibration_data, "timed", lambda *_, **__: rows(FEWEST - 1))
    with pytest.raises(Problem, match=f"only {FEWEST - 1} graphs could be timed, {FEWEST} are needed") as wrong:
        calibrate.calibrate(detect(), target=Target(), seconds=1)
    assert wrong.value.code == Exit.UNJUDGED


@pytest.mark.parametrize("number", range(4))
def test_a_random_net_goes_through_our_exporter_and_quantizer_and_all_its_operators_are_counted(number: int, tmp_path) -> None:
    from compress.calibration_nets import draw

    net = draw(number)
    paths = files(net, tmp_path, Target())
    assert set(paths) == {"fp32", "int8"}
    feeds = next(iter(net.feeds.values()))
    for path in paths.values():
        found = operators_of(path, feeds)
        assert any(op.macs for op in found) and all(op.name and op.dtype for op in found if op.macs)
    assert paths["int8"].read_bytes() != paths["fp32"].read_bytes()


def test_the_numbers_draw_the_same_nets_in_every_run() -> None:
    from compress.calibration_nets import draw

    one, other = draw(3, seed=5), draw(3, seed=5)
    assert all(torch.equal(a, b) for a, b in zip(one.module.state_dict().values(), other.module.state_dict().values(), strict=True))
    assert all(np.array_equal(one.feeds[size]["x"], other.feeds[size]["x"]) for size in one.feeds)


def test_labels_are_taken_in_rounds_and_slow_nets_left_out() -> None:
    from compress.calibration_nets import draw

    waiting = list(opened(draw(0), "0", "kind", Target()))[:2]
    order: list[int] = []
    now = [0.0]

    def call(number: int, seconds: float):
        def run() -> None:
            order.append(number)
            now[0] += seconds

        return run

    from dataclasses import replace

    jobs = [replace(waiting[0], name=str(number), call=call(number, seconds)) for number, seconds in enumerate((0.001, 0.002, 9.0))]
    found = timed(jobs, seconds=0.0, seed=0, slowest=1.0, clock=lambda: (0.0, now[0]))
    assert [row.name for row in found] == ["0", "1"]
    assert [row.seconds for row in found] == pytest.approx([0.001, 0.002])
    assert order.count(2) == 2, "a slow net is opened and timed once, to be found slow"


def test_cache_sizes_are_bytes_in_rising_order() -> None:
    sizes = cache_sizes()
    assert list(sizes) == sorted(sizes) and all(size >= 1024 for size in sizes)
