"""What a request can state: its flags, its sentence, and what is refused before any candidate is looked at."""

from __future__ import annotations

from dataclasses import fields, replace

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cli
from advisor.asking import as_asked, check, flags, in_words, request
from advisor.recommend import device, facts_of, recommend
from rules.facts import Request
from rules.knowledge import load
from rules.problems import Problem
from rules.ranking import contest, hold, pick
from rules.whatif import flips
from tests.rules_for_tests import PI

BOARD, GPU = "raspberry-pi-5", "jetson-orin-nano"
sound = st.builds(
    Request,
    task=st.just("ocr"),
    device=st.sampled_from((BOARD, GPU, "this-machine")),
    latency_ms=st.floats(0.01, 1000).map(lambda value: float(f"{value:.6g}")),
    percentile=st.sampled_from(("p50", "p90", "p99")),
    size_bytes=st.none() | st.integers(1, 10**9).map(lambda value: value * 1000),
    ram_bytes=st.none() | st.integers(1, 10**9).map(lambda value: value * 1000),
    flash_bytes=st.none() | st.integers(1, 10**9).map(lambda value: value * 1000),
    energy=st.sampled_from((None, "milliwatt", "watt", "mains")),
    streaming=st.booleans(),
    generate=st.booleans(),
    examples=st.none() | st.integers(10**6, 10**7),
    per_class=st.none() | st.integers(0, 100),
    classes=st.none() | st.integers(1, 10_000),
    length=st.none() | st.integers(1, 10**6),
    resolution=st.none() | st.integers(1, 10**4),
    charset=st.none() | st.text("abc '\"$é", min_size=1),
    pretrained=st.sampled_from((None, True, False)),
    explain=st.booleans(),
    licence=st.sampled_from(("any", "permissive")),
    runtime=st.sampled_from((None, "onnxruntime-cpu")),
    precision=st.sampled_from((None, "fp32", "fp16", "int16", "int8")),
)


def typed(arguments: list[str]) -> Request:
    """The request that the command line makes of these arguments."""
    context = cli.advisor.commands["whatif"].make_context("whatif", ["--task", "ocr", *arguments])
    stated = {name: value for name, value in context.params.items() if name not in ("form", "overlay")}
    return request(stated.pop("task"), stated.pop("device"), **stated)


@settings(max_examples=150)
@given(sound)
def test_a_request_typed_as_its_flags_is_the_same_request(asked):
    assert typed(flags(asked)) == asked


def test_every_fact_of_a_request_has_a_flag_and_a_word():
    stated = Request(
        "ocr", BOARD, 5, 10, 10, True, 1000, "ab", False, True, "permissive", "p99", 10, "watt", 7, 3, 9, 8, True, "onnxruntime-cpu", "int8"
    )
    silent = Request("ocr")
    for item in fields(Request):
        if item.name in ("task", "percentile"):
            continue
        one = replace(silent, **{item.name: getattr(stated, item.name)})
        assert getattr(stated, item.name) != getattr(silent, item.name), item.name
        assert flags(one), item.name
        assert item.name == "device" or in_words(one) != in_words(silent), item.name
    assert "99 of 100 calls" in in_words(stated)


@pytest.mark.parametrize("verb", ["recommend", "whatif"])
def test_both_verbs_take_every_flag(verb):
    options = {name for option in cli.advisor.commands[verb].params if isinstance(option, click.Option) for name in option.opts}
    assert {
        name for name in flags(Request("ocr", latency_ms=1, percentile="p90", energy="watt", flash_bytes=1)) if name.startswith("--")
    } <= options
    assert {"--streaming", "--causal", "--length", "--resolution", "--per-class", "--classes", "--runtime", "--precision"} <= options


NONSENSE = {
    "a budget that is no number": ({"latency_ms": float("nan")}, "latency_ms is nan: a budget is a number of ms above zero"),
    "an endless budget": ({"latency_ms": float("inf")}, "latency_ms is inf"),
    "no flash at all": ({"flash_bytes": 0}, "flash_bytes is 0: a budget is a number of bytes above zero"),
    "no class": ({"classes": 0}, "classes is 0: it is at least 1"),
    "a percentile of nothing": ({"percentile": "p99"}, "p99 of which latency budget? None is stated (add --latency-ms)"),
    "a misspelt percentile": ({"percentile": "p95", "latency_ms": 1.0}, "unknown percentile 'p95'; did you mean 'p9"),
    "an unknown precision": ({"precision": "int4"}, "unknown precision 'int4'; did you mean 'int"),
    "a runtime the device has not": ({"runtime": "tensorrt"}, "unknown runtime of raspberry-pi-5 'tensorrt'; known: onnxruntime-cpu"),
    "fewer examples than the classes have": (
        {"examples": 10, "per_class": 5, "classes": 95},
        "5 examples of each of 95 classes are at least 475, and 10 examples are stated",
    ),
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_what_contradicts_itself_is_refused_in_one_line(kind):
    stated, said = NONSENSE[kind]
    with pytest.raises(Problem) as found:
        recommend(Request("ocr", device=BOARD, **stated), load())
    assert said in str(found.value) and "\n" not in str(found.value) and found.value.code == 2


def test_a_size_in_megabytes_that_is_no_number_is_refused():
    with pytest.raises(Problem, match="--size-mb nan is no number of megabytes"):
        request("ocr", BOARD, size_mb=float("nan"))


@given(sound)
def test_a_sound_request_is_not_refused(asked):
    check(asked, device(load(), BOARD))


def test_so_many_of_each_class_are_so_many_examples():
    row = replace(load().task("ocr"), metric="mIoU")  # a class for every pixel
    facts = facts_of(Request("ocr", per_class=5, classes=20, resolution=100), row)
    assert facts["request.examples"] == 100 and facts["request.output_values"] == 200_000
    assert facts_of(Request("ocr", per_class=5, classes=20, examples=700), row)["request.examples"] == 700
    assert facts_of(Request("ocr", classes=20), row).get("request.output_values") is None
    assert facts_of(Request("ocr", classes=20, resolution=100), load().task("ocr")).get("request.output_values") is None


def test_a_head_whose_argmax_dominates_is_refused_where_every_pixel_gets_a_class():
    known, target = load(), device(load(), "android-arm64")
    row = replace(known.task("image-classification"), name="pixels", metric="mIoU")
    prepared = contest(row, target, cards=known.cards, costs=known.costs, rules=known.rules)

    def heard(**asked):
        outcome = hold(prepared, facts_of(Request("pixels", target.name, **asked), row))
        found = (*outcome.kept, *outcome.refused)
        return [{said.rule for said in item.verdicts if said.rule.startswith("validity.argmax")} for item in found], outcome

    rules, outcome = heard(classes=150, resolution=512, latency_ms=60.0)
    assert outcome.kept == () and all(rules_ == {"validity.argmax-dominates", "validity.argmax-is-heavy"} for rules_ in rules)
    rules, outcome = heard(classes=150, resolution=512)
    assert outcome.kept and all(rules_ == {"validity.argmax-is-heavy"} for rules_ in rules)
    assert not any(heard(classes=21, resolution=512, latency_ms=60.0)[0])
    asked = Request("pixels", target.name, classes=150, resolution=512, latency_ms=60.0)
    back = next(flip for flip in flips(prepared, facts_of(asked, row)) if flip.fact == "request.classes" and flip.direction == "at most")
    assert back.pick and back.threshold == 39_000_000 // 512**2


# -- the device as far as it may be used --------------------------------------------------------------------------------


def ocr(**asked):
    return recommend(Request("ocr", **{"device": BOARD, **asked}), load())


def test_a_precision_that_must_ship_decides_the_plan_and_the_prediction():
    wide, narrow = pick(ocr(precision="fp32").kept), pick(ocr(precision="int8").kept)
    assert (wide.prediction.precision, narrow.prediction.precision) == ("fp32", "int8")
    assert not {"quantize", "qat", "adaround"} & {stage.name for stage in wide.stages}
    assert "quantize" in {stage.name for stage in narrow.stages}
    assert wide.size_bytes > 3 * narrow.size_bytes


@pytest.mark.parametrize(("board", "precision"), [(BOARD, "int16"), (BOARD, "fp16"), ("jetson-nano", "int8"), ("jetson-nano", "int16")])
def test_numbers_that_the_device_cannot_compute_in_are_refused_by_a_rule(board, precision):
    answer = ocr(device=board, precision=precision)
    assert answer.kept == () and f"validity.{precision}-needs-{precision}" in answer.binding
    for found in answer.refused:
        assert f"validity.{precision}-needs-{precision}" in {said.rule for said in found.verdicts if said.effect == "forbid"}


def test_int16_on_an_8_bit_accelerator_is_refused_and_int8_is_what_ships_there():
    accelerator = replace(PI, name="npu", kind="npu", precisions=("int8",))
    asked = Request("ocr", "npu", precision="int8")
    assert as_asked(accelerator, asked) == accelerator
    from advisor.recommend import contest_for

    known = load()
    row = known.task("ocr")
    for precision, kept in (("int8", True), ("int16", False)):
        request_ = replace(asked, precision=precision)
        outcome = hold(contest_for(row, accelerator, known, request_), facts_of(request_, row))
        assert bool(outcome.kept) is kept
        assert all(found.prediction is None or found.prediction.precision == "int8" for found in outcome.kept)


def test_a_boards_own_processor_has_no_time_of_its_accelerator():
    best = pick(ocr(device=GPU, runtime="onnxruntime-cpu").kept)
    assert best.prediction is None and "quantize" in {stage.name for stage in best.stages}
    assert pick(ocr(device=GPU, runtime="tensorrt").kept).prediction is not None


def test_a_net_in_two_directions_is_refused_where_it_would_have_to_generate_or_stream():
    asked = ocr(generate=True)
    said = {
        verdict.rule for found in asked.refused if found.architecture == "crnn" for verdict in found.verdicts if verdict.effect == "forbid"
    }
    assert "validity.generation-forbids-two-directions" in said
    for task in load().tasks:
        row, cards = load().task(task), load().cards
        both = {cell.architecture for cell in row.cells if cards[cell.architecture].traits.get("bidirectional") is True}
        for wish in ({"streaming": True}, {"generate": True}):
            kept = {found.architecture for found in recommend(Request(task, BOARD, **wish), load()).kept}
            assert not kept & both, (task, wish)


def test_flash_refuses_as_size_does_and_says_flash():
    answer = ocr(flash_bytes=30_000)
    assert answer.kept == () and "flash budget of 0.03 MB (budget.flash)" in answer.binding
    assert pick(ocr(flash_bytes=300_000).kept).size_bytes <= 300_000


def test_a_tail_of_the_latency_is_met_by_the_high_end_of_the_estimate():
    middle = pick(ocr(latency_ms=3).kept)
    tail = pick(ocr(latency_ms=3, percentile="p99").kept)
    assert middle.prediction.mid_ms <= 3 < middle.prediction.high_ms
    assert tail.prediction.high_ms <= 3
    warned = next(
        found
        for found in ocr(latency_ms=3, percentile="p99").kept
        if (found.architecture, found.variant) == (middle.architecture, middle.variant)
    )
    assert any("which stands for p99" in said.because for said in warned.verdicts if said.rule == "budget.latency")
