"""Prices of kernels: the arithmetic against a slow reference, what padding costs, what an interval may do, and the file they live in."""

from __future__ import annotations

import math
import tomllib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.device_file import text
from rules.facts import Cost, Device, Kernels, Operator, Rate, Variant
from rules.kernels import amounts, borrowed, forecast, terms
from rules.latency import predict
from rules.problems import Problem
from rules.reading import device as read
from rules.tables import Table
from tests.rules_for_tests import PI

NAMES = (
    "run",
    "node",
    "conv",
    "conv.macs",
    "conv.out",
    "pw.macs",
    "dw.macs",
    "dw-plain.groups",
    "dw-plain.copied",
    "sgemm.macs",
    "plain.copied",
)
MORE = ("q-conv.macs", "q-dw.macs", "q-dw-odd.macs", "q-dw-odd.tail", "gemm.passes", "gemm.row.weights", "LSTM.steps", "LSTM.hidden.macs")
PRICES = dict.fromkeys((*NAMES, *MORE), (1e-10, 1.1e-10, 9e-11)) | {"run": (5e-6,) * 3, "node": (1e-7,) * 3, "any": (1e-6,) * 3}
KERNELS = Kernels(
    "a processor", "1.32.0", "2026-01-31", 700, (1_048_576, 33_554_432), 0.1, {"fp32": (-1.5, 1.6), "int8": (-2.0, 3.0)}, PRICES
)
HERE = replace(PI, name="here", kernels=KERNELS, rates={"fp32": Rate(5e10, "macs/s", "paper", "measured")})


def convolution(channels: int, *, window: int = 9, rows: int = 256, groups: int = 1, op: str = "Conv", dtype: str = "float") -> Operator:
    """A square convolution of so many channels, as `compress.operators` would describe it."""
    inside = channels // groups
    blocked = op == "QLinearConv" or (channels % 4 == 0)
    size = rows * channels * (4 if dtype == "float" else 1)
    return Operator(
        op,
        rows * inside * channels * window,
        4 * inside * channels * window,
        size,
        size,
        "",
        dtype,
        rows,
        inside,
        inside,
        groups,
        window,
        0,
        16,
        blocked,
    )


sizes = st.integers(1, 512)
operators = st.one_of(
    st.builds(convolution, sizes, window=st.sampled_from((1, 9, 25)), rows=st.integers(1, 4096)),
    st.builds(lambda c, rows: convolution(c, rows=rows, groups=c), sizes, st.integers(1, 4096)),
    st.builds(lambda c, rows: convolution(c, rows=rows, op="QLinearConv", dtype="uint8"), sizes, st.integers(1, 4096)),
    st.builds(lambda m, k, n: Operator("Gemm", m * k * n, 4 * k * n, 4 * m * k, 4 * m * n, "", "float", m, k, n), sizes, sizes, sizes),
    st.builds(
        lambda t, i, h: Operator("LSTM", 4 * t * h * (i + h), 16 * h * (i + h), 4 * t * i, 4 * t * h, "", "float", 1, i, h, 1, 1, t),
        sizes,
        sizes,
        sizes,
    ),
    st.builds(lambda n: Operator("Softmax", 0, 0, 4 * n, 4 * n, "", "float", 1), sizes),
)


@given(st.lists(operators, min_size=1, max_size=8))
def test_a_forecast_is_the_sum_over_operators_of_amount_times_price(ops):
    """The slow reference: operator by operator, name by name, nothing gathered first."""
    total = PRICES["run"][0]
    for op in ops:
        for name, amount in terms(op):
            priced = name if name in PRICES else borrowed(name, PRICES)
            total += amount * PRICES[priced][0] if priced else 0.0
    assert math.isclose(forecast(ops, replace(KERNELS, caches=()), "fp32").mid, total, rel_tol=1e-9)


@given(st.lists(operators, min_size=1, max_size=8), operators, st.sampled_from(("fp32", "int8")))
def test_the_interval_holds_the_middle_and_more_work_never_takes_less_time(ops, more, precision):
    before, after = forecast(ops, KERNELS, precision), forecast([*ops, more], KERNELS, precision)
    assert 0 < before.low < before.mid < before.high < math.inf
    assert after.mid >= before.mid


@given(st.integers(1, 31), st.integers(1, 31), st.sampled_from((1, 9)), st.booleans())
def test_at_aligned_widths_more_channels_never_cost_less(a, b, window, integer):
    kind = {"op": "QLinearConv", "dtype": "uint8"} if integer else {}
    few, many = (forecast([convolution(16 * width, window=window, **kind)], KERNELS, "fp32").mid for width in sorted((a, b)))
    assert few <= many


def test_channels_count_as_whole_vectors():
    cost = {c: dict(terms(convolution(c)))["conv.macs"] for c in (20, 24, 28, 32)}
    assert len(set(cost.values())) == 1
    assert dict(terms(convolution(36)))["conv.macs"] == pytest.approx(cost[32] * 2.25)


def test_odd_channels_lose_the_blocks_and_pay_for_copies_instead():
    even, odd = convolution(32, groups=32), convolution(31, groups=31)
    assert {name.partition(".")[0] for name, _ in terms(even)} >= {"dw"} and {name.partition(".")[0] for name, _ in terms(odd)} >= {
        "dw-plain"
    }
    odd_integer = convolution(60, groups=60, op="QLinearConv", dtype="uint8")
    assert dict(terms(odd_integer))["q-dw-odd.tail"] > 0


def test_weights_that_no_cache_holds_are_paid_for_again():
    small, large = (Operator("Gemm", 1, weight, 4, 4, "", "float", 1, 1, 1) for weight in (10_000, 60_000_000))
    assert not [name for name in amounts([small], KERNELS.caches) if name.startswith("fetched")]
    assert {"fetched.l2", "fetched.l3"} <= set(amounts([large], KERNELS.caches))


def test_what_was_never_measured_stands_at_a_similar_price_and_widens_the_interval():
    known, unknown = (
        Operator("Conv", 1, 4, 4, 4, "", "float", 64, 16, 16, 1, 9, 0, 8, True),
        Operator("Mystery", 0, 0, 4, 4, "", "float", 1),
    )
    sure, unsure = forecast([known], KERNELS, "fp32"), forecast([known, *[unknown] * 50], KERNELS, "fp32")
    assert sure.unknown < 0.01 < unsure.unknown
    assert unsure.high / unsure.low > sure.high / sure.low
    assert (
        borrowed("q-grouped.macs", PRICES) == "q-conv.macs"
        and borrowed("Mystery", PRICES) == "any"
        and borrowed("Mystery.rows", PRICES) is None
    )


def test_fits_that_disagree_widen_the_interval():
    apart = replace(KERNELS, prices=PRICES | {"conv.macs": (1e-10, 3e-10, 0.3e-10)})
    ops = [convolution(64)]
    agreed, torn = forecast(ops, KERNELS, "fp32"), forecast(ops, apart, "fp32")
    assert torn.mid == agreed.mid and torn.high > agreed.high and torn.low < agreed.low


# -- prediction ------------------------------------------------------------------------------------------------------


def counted(*ops: Operator, precision: str = "fp32") -> Cost:
    return Cost("net", "small", precision, "1x1x32x128", 1, 1, ops)


def test_a_calibrated_machine_predicts_from_its_kernels_and_says_so():
    found = predict(Variant("small", 1, 1, ""), counted(convolution(64)), HERE, "fp32")
    assert found.kind == "measured" and "2026-01-31" in found.basis and "1.32.0" in found.basis
    assert found.low_ms < found.mid_ms < found.high_ms


def test_what_is_only_published_stays_an_estimate_even_on_a_calibrated_machine():
    found = predict(Variant("small", 1_000, 1_000_000, "1x3x32x32"), None, HERE, "fp32")
    assert found.kind == "estimate" and "published count" in found.basis
    assert predict(Variant("small", 1, 1, ""), counted(convolution(64)), HERE, "int8").kind == "estimate"  # counted in fp32 only
    undetailed = Operator("Conv", 1000, 1, 1, 1)
    assert predict(Variant("small", 1, 1, ""), counted(undetailed), HERE, "fp32").kind == "estimate"


# -- the file --------------------------------------------------------------------------------------------------------


def parsed(written: str, name: str = "here") -> Device:
    return read(Table(tomllib.loads(written), "here.toml"), name)


def test_a_calibrated_file_reads_back_as_it_was():
    assert parsed(text(HERE)) == HERE


@given(
    st.dictionaries(st.text(min_size=1, max_size=12), st.lists(st.floats(0, 1), min_size=2, max_size=2).map(tuple), min_size=1, max_size=5),
    st.text(min_size=1).filter(lambda said: said.isprintable() and said.strip()),
)
def test_whatever_names_and_prices_there_are_they_read_back(prices, said):
    device = replace(HERE, title=said, kernels=replace(KERNELS, prices=prices))
    assert parsed(text(device)) == device


HOSTILE = [
    ('"conv.macs" = [1e-10, 1.1e-10, 9e-11]', '"conv.macs" = [nan, 1.1e-10, 9e-11]', "conv.macs"),
    ('"conv.macs" = [1e-10, 1.1e-10, 9e-11]', '"conv.macs" = [-1e-10, 1.1e-10, 9e-11]', "numbers from 0 to 1"),
    ('"conv.macs" = [1e-10, 1.1e-10, 9e-11]', '"conv.macs" = [inf, 1.1e-10, 9e-11]', "conv.macs"),
    ('"conv.macs" = [1e-10, 1.1e-10, 9e-11]', '"conv.macs" = [true, 1.1e-10, 9e-11]', "conv.macs"),
    ('"conv.macs" = [1e-10, 1.1e-10, 9e-11]', '"conv.macs" = [1e-10]', "as many figures"),
    ('"conv.macs" = [1e-10, 1.1e-10, 9e-11]', '"conv.macs" = 7', "conv.macs"),
    ('"fp32" = [-1.5, 1.6]', '"fp32" = [1.5, 1.6]', "one figure below 0"),
    ('"fp32" = [-1.5, 1.6]', '"fp33" = [-1.5, 1.6]', "fp32 is missing"),
    ("floor = 0.1", "floor = 0", "floor"),
    ("graphs = 700", "graphs = -3", "graphs"),
    ("graphs = 700", "graphs = 700\nwhat = 1", "unknown key 'what'"),
    ('caches = "1048576 33554432"', 'caches = "1048576 lots"', "caches"),
    ('caches = "1048576 33554432"', 'caches = "1 2"', "caches"),
]


@pytest.mark.parametrize(("was", "becomes", "said"), HOSTILE)
def test_a_file_that_no_measurement_wrote_is_refused_in_one_line(was, becomes, said):
    written = text(HERE)
    assert was in written
    with pytest.raises(Problem) as refusal:
        parsed(written.replace(was, becomes))
    assert said in str(refusal.value) and "\n" not in str(refusal.value) and "here.toml" in str(refusal.value)
