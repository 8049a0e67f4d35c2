"""Predictions: what they are made of, and what they may never do."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rules.facts import Operator, Rate, Variant
from rules.latency import cost_of, memory_of, predict, shipped_precision, size_of
from tests.rules_for_tests import PI, card, cost

VARIANT = Variant("small", 100_000, 10_000_000, "1x1x32x128")
operators = st.builds(
    Operator,
    st.sampled_from(("Conv", "QLinearConv", "MatMul", "DynamicQuantizeLSTM", "Add")),
    st.integers(0, 10**9),
    st.integers(0, 10**7),
    st.integers(0, 10**7),
    st.integers(0, 10**7),
)


@given(st.lists(operators, min_size=1, max_size=6), operators)
def test_more_work_never_takes_less_time(ops, more):
    before = predict(VARIANT, cost("net", *ops), PI, "fp32")
    after = predict(VARIANT, cost("net", *ops, more), PI, "fp32")
    assert before.low_ms < before.mid_ms < before.high_ms
    assert after.mid_ms >= before.mid_ms


@given(st.lists(operators, min_size=1, max_size=6), st.floats(1, 100))
def test_a_faster_device_is_never_slower(ops, times):
    faster = replace(PI, rates={**PI.rates, "fp32": replace(PI.rates["fp32"], value=PI.rates["fp32"].value * times)})
    assert predict(VARIANT, cost("net", *ops), faster, "fp32").mid_ms <= predict(VARIANT, cost("net", *ops), PI, "fp32").mid_ms


def test_the_time_of_one_large_product_is_its_macs_over_what_the_rate_reaches():
    found = predict(VARIANT, cost("net", Operator("Conv", 70_000_000, 0, 0, 4)), PI, "fp32")
    assert abs(found.mid_ms - (70e6 / (10e9 * 0.7) * 1000 + 0.001)) < 1e-9


def test_an_operator_that_only_moves_bytes_takes_what_the_memory_needs():
    found = predict(VARIANT, cost("net", Operator("Add", 0, 0, 5_000_000, 5_000_000)), PI, "fp32")
    assert abs(found.mid_ms - (2.0 + 0.001)) < 1e-9


def test_a_measured_rate_is_taken_as_it_is_and_narrows_the_interval():
    measured = replace(PI, rates={**PI.rates, "fp32": Rate(10e9, "macs/s", "here", "measured")})
    work = cost("net", Operator("Conv", 70_000_000, 0, 0, 4))
    known, published = predict(VARIANT, work, measured, "fp32"), predict(VARIANT, work, PI, "fp32")
    assert known.mid_ms < published.mid_ms
    assert known.high_ms / known.low_ms < published.high_ms / published.low_ms
    assert "measured rates" in known.basis and "published rates" in published.basis


def test_without_a_counted_graph_the_published_count_is_used_and_said():
    found = predict(VARIANT, None, PI, "int8")
    assert "the published count of operations" in found.basis and found.kind == "estimate"
    assert predict(replace(VARIANT, macs=0), None, PI, "int8") is None


def test_a_published_count_in_8_bits_runs_at_the_8_bit_rate():
    quick = replace(PI, rates={**PI.rates, "int8": Rate(100e9, "macs/s", "here", "published")})
    found = predict(Variant("net", 1, 50_000_000, ""), None, quick, "int8")
    assert abs(found.mid_ms - (50e6 / (100e9 * 0.5) * 1000 + 0.001)) < 1e-9


def test_a_device_without_an_int8_rate_is_predicted_at_fp32_and_it_is_said():
    slow = replace(PI, rates={"fp32": PI.rates["fp32"]})
    assert "no int8 rate is known" in predict(VARIANT, None, slow, "int8").basis
    assert predict(VARIANT, None, replace(PI, rates={}), "int8") is None


def test_what_stayed_float_in_an_int8_graph_runs_at_the_float_rate():
    conv = Operator("Conv", 70_000_000, 0, 0, 4)
    quantized = replace(conv, op="QLinearConv")
    stayed, became = (predict(VARIANT, cost("net", op, precision="int8"), PI, "int8").mid_ms for op in (conv, quantized))
    assert stayed > became


def test_the_shipped_precision_follows_device_and_architecture():
    gpu = replace(PI, kind="gpu", precisions=("fp32", "fp16", "int8"))
    assert shipped_precision(card("a"), PI) == "int8"
    assert shipped_precision(card("a"), gpu) == "fp16"
    assert shipped_precision(card("a", int8="none"), PI) == "fp32"
    assert shipped_precision(card("a"), replace(PI, precisions=("fp32",))) == "fp32"


def test_the_counted_graph_of_the_shipped_precision_comes_first():
    fp32, int8 = cost("net"), cost("net", precision="int8", size=110_000)
    net = card("net")
    assert cost_of(net, net.variants[0], [fp32, int8], "int8") is int8
    assert cost_of(net, net.variants[0], [fp32], "int8") is fp32
    assert cost_of(net, net.variants[0], [int8], "fp32") is None
    assert size_of(net.variants[0], int8, "int8") == 110_000
    assert size_of(net.variants[0], fp32, "int8") == 110_000  # a byte a parameter and a tenth
    assert size_of(replace(net.variants[0], params=0), None, "int8") is None


def test_memory_is_the_weights_and_the_largest_layer():
    found = cost("net", Operator("Conv", 1, 0, 1000, 3000), Operator("Conv", 1, 0, 100, 100), precision="int8", size=50_000)
    assert memory_of(VARIANT, found, "int8") == 54_000
    assert memory_of(VARIANT, None, "int8") == 110_000
    assert memory_of(VARIANT, found, "int8", weights_in_flash=True) == 54_000 - size_of(VARIANT, found, "int8")
    assert memory_of(VARIANT, None, "int8", weights_in_flash=True) == 110_000
