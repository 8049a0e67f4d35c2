"""The nouns: what is asked, what is known, what is answered. Frozen, plain, without behaviour of their own.

Units are suffixes (`latency_ms`, `ram_bytes`, `macs`). Every number that came from somewhere carries an `Evidence`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Value = bool | int | float | str | tuple[str, ...]
Facts = Mapping[str, Value | None]
Kind = Literal["measured", "published", "estimate"]
Status = Literal["built", "planned", "reference"]  # built here; fit to be built, not there yet; never built here, with its reason
STAGES = ("train", "distil", "prune", "export", "quantize", "equalize", "adaround", "qat", "four_bit", "fp16")  # in the order of a plan
Effect = Literal["forbid", "prefer", "avoid", "assert", "set", "stage", "warn", "error"]
Direction = Literal["at least", "at most", "above", "below", "becomes"]
VerdictOnClaim = Literal["right", "imprecise", "wrong", "unsourced", "opinion"]


@dataclass(frozen=True, slots=True)
class Source:
    """One citation, by id. `kind` says what stands behind it: a paper, a repository, a data sheet, our own measurement."""

    id: str
    title: str
    url: str
    year: int
    kind: Literal["paper", "repository", "datasheet", "documentation", "measurement", "article"]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One number with its unit, its conditions and its source."""

    what: str  # "accuracy", "latency", "parameters" ...
    value: float
    unit: str
    on: str  # data set, device, recipe: the conditions
    source: str  # id of a Source
    kind: Kind = "published"
    note: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """What its authors or keepers say a variant counts: the bar our own count is held to. 0: they say nothing of it."""

    params: int
    macs: int
    source: str


@dataclass(frozen=True, slots=True)
class Variant:
    """A buildable size of an architecture. `settings` are the keyword arguments of the card's builder."""

    name: str
    params: int
    macs: int
    shape: str  # the input that `macs` was counted on, e.g. "1x1x32x128"
    settings: Mapping[str, Any] = field(default_factory=dict)
    kind: Kind = "published"  # where params and macs come from; built variants are counted ("measured")
    source: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)  # what of the data's part it was counted with, where not the task's usual
    published: Published | None = None  # the figures to be within 2 % of
    task: str = ""  # whose data it was counted with, where not that of the task its card fits best
    weights: str = ""  # "hub": its builder takes published weights, so that training may start from them


@dataclass(frozen=True, slots=True)
class Card:
    """An architecture. `builds` is the builder ("advisor.architectures.crnn:build"), empty for a reference row."""

    name: str
    title: str
    family: str  # "cnn", "recurrent", "cnn+recurrent", "attention", "mlp", "trees" ...
    year: int
    status: Status
    reason: str  # why it is only a reference ("" otherwise)
    source: str
    licence_code: str
    licence_weights: str
    builds: str = ""
    traits: Mapping[str, Value] = field(default_factory=dict)  # causal, streaming, recurrent, autoregressive, attention, depthwise ...
    variants: tuple[Variant, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    notes: tuple[str, ...] = ()
    reduced: Mapping[str, Any] = field(default_factory=dict)  # settings of a small one, where the variants are too large to test often


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the task-fit matrix: how well an architecture fits a task, and why."""

    architecture: str
    role: Literal["pick", "alternative", "baseline", "reference"]
    fit: float  # 0..100, the matrix score before any rule speaks
    because: str
    source: str
    variant: str = ""  # the default variant for this task
    teacher: str = ""  # the variant that teaches it


@dataclass(frozen=True, slots=True)
class Condition:
    """`{fact, op, value}`. `op` is from a fixed list; nothing is evaluated."""

    fact: str
    op: Literal["is", "is-not", "<", "<=", ">", ">=", "in", "not-in", "has", "known", "unknown"]
    value: Value | None = None


@dataclass(frozen=True, slots=True)
class When:
    """All of `all`, any of `any` (when given), none of `none`."""

    all: tuple[Condition, ...] = ()
    any: tuple[Condition, ...] = ()
    none: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Then:
    """What a rule concludes. Exactly one thing, or an assertion beside it."""

    forbid: bool = False
    prefer: float = 0.0  # weight; negative means avoid
    facts: Mapping[str, Value] = field(default_factory=dict)  # derived facts to assert
    set: Mapping[str, Value] = field(default_factory=dict)  # "prune.align" = 16
    stage: str = ""  # add this compression stage to the plan
    warn: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """`when` these facts hold, `then` this follows, `because` of that, as `source` says."""

    id: str
    when: When
    then: Then
    because: str
    source: str
    origin: str = ""  # the file it was read from


@dataclass(frozen=True, slots=True)
class ArticlePick:
    """What the source article says about a task, and today's verdict on it."""

    recommended: str
    alternative: str
    concern: str
    verdict: str
    source: str


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing the source article says, with today's verdict on it, the fact, and how to see it for oneself."""

    id: str
    part: str  # of the article
    says: str  # in our words
    verdict: VerdictOnClaim
    fact: str
    sources: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()  # what else it is found by
    see: tuple[str, ...] = ()  # commands, and tests as "tests/test_x.py::test_y"
    lives: tuple[str, ...] = ()  # where it is in the product: cards, tasks, stages, rules


@dataclass(frozen=True, slots=True)
class Remedy:
    """One step against a challenge. `advice`: the advisor says it, the user does it; `planned`: not built yet."""

    what: str
    status: Literal["built", "advice", "planned"]
    how: str  # what runs it here, or what to run oneself
    rules: tuple[str, ...]  # the rules that ask for it
    source: str


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge the source article names, and what is done about it, in the order in which it is tried."""

    id: str
    title: str
    claim: str  # what the article proposes
    terms: tuple[str, ...]
    remedies: tuple[Remedy, ...]


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One row of the task-fit matrix."""

    name: str
    title: str
    metric: str
    better: Literal["lower", "higher"]
    cells: tuple[Cell, ...]
    article: ArticlePick | None = None
    rules: tuple[Rule, ...] = ()
    aliases: tuple[str, ...] = ()
    defaults: Mapping[str, Value] = field(default_factory=dict)  # request facts assumed when the user is silent
    status: Literal["built", "reference"] = "reference"  # built: `advisor run` can do it


@dataclass(frozen=True, slots=True)
class Rate:
    """A peak or measured rate of a device, with its source."""

    value: float
    unit: str
    source: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Kernels:
    """What a machine's kernels cost, measured there by `advisor calibrate` (`rules/kernels.py` reads them).

    `prices`: for each thing an operator has to do, seconds a unit; then the same once more for every group of nets that a fit was
    made without, so that it shows how sure a price is. `floor` and `spread` make the 90 % interval: see `rules.kernels.forecast`.
    """

    cpu: str
    runtime: str  # onnxruntime's version
    date: str
    graphs: int  # that the prices were fitted to
    caches: tuple[int, ...]  # bytes, from the second level on
    floor: float
    spread: Mapping[str, tuple[float, float]]  # by precision
    prices: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Device:
    """What a target can do. Rates: `fp32`, `fp16`, `int8` (macs/s, one thread), `memory` (bytes/s), `node` (s per operator)."""

    name: str
    title: str
    kind: Literal["cpu", "gpu", "npu", "mcu"]
    isa: tuple[str, ...]  # "x86-64", "avx2", "avx512-vnni", "aarch64", "neon", "dotprod", "sm87" ...
    cores: int
    ram_bytes: int
    runtimes: tuple[str, ...]  # "onnxruntime-cpu", "onnxruntime-cuda", "tensorrt"
    precisions: tuple[str, ...]  # "fp32", "int8", "fp16"
    source: str
    integer_format: Literal["u8s8", "u8u8", "u8s8-reduced", "s8s8"] = "u8s8"
    align: int = 8  # channel multiple the runtime runs fast
    opset: int = 17
    ir_version: int = 8
    rates: Mapping[str, Rate] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    kernels: Kernels | None = None


@dataclass(frozen=True, slots=True)
class Operator:
    """One node of an exported graph after onnxruntime's own optimisation: enough to predict its time.

    Products, convolutions among them, are `rows` × (`inputs` · `window`) × `outputs` in each of `groups`; recurrent layers have
    `rows` sequences of `steps`, `inputs` wide, with `outputs` units in each of `groups` directions. 0 where a figure has no meaning.
    """

    op: str
    macs: int
    weight_bytes: int
    in_bytes: int
    out_bytes: int
    name: str = ""
    dtype: str = ""  # of what comes out of it (of what goes in, for what makes numbers float again): "float", "uint8" …
    rows: int = 0  # output positions of a convolution, rows of a product, sequences of a recurrent layer
    inputs: int = 0  # channels of a group that are summed, or the inner size of a product
    outputs: int = 0  # channels of a group that come out
    groups: int = 1  # of a convolution; independent products of a batched one; directions of a recurrent layer
    window: int = 1  # positions under a convolution's or a pool's kernel, or that a resized value comes from
    steps: int = 0  # of a recurrent layer
    width: int = 0  # the last axis of what comes out
    blocked: bool = False  # the runtime may keep its channels in blocks, or last
    relaid_bytes: int = 0  # what has to change between such a layout and the plain one before it runs


@dataclass(frozen=True, slots=True)
class Cost:
    """What one variant costs: the operators of its exported graph at one input shape, in one precision."""

    architecture: str
    variant: str
    precision: Literal["fp32", "int8"]
    shape: str
    size_bytes: int
    params: int
    operators: tuple[Operator, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked. None means: not stated."""

    task: str
    device: str = "this-machine"
    latency_ms: float | None = None
    size_bytes: int | None = None
    ram_bytes: int | None = None
    streaming: bool = False
    examples: int | None = None
    charset: str | None = None
    pretrained: bool | None = None
    explain: bool = False
    licence: Literal["any", "permissive"] = "any"
    percentile: Literal["p50", "p90", "p99"] = "p50"  # of the latency budget
    flash_bytes: int | None = None
    energy: Literal["milliwatt", "watt", "mains"] | None = None  # what feeds the device: a coin cell, a battery or USB, the wall
    per_class: int | None = None  # labelled examples of each class
    classes: int | None = None
    length: int | None = None  # of the input sequence: steps, tokens, samples
    resolution: int | None = None  # of the shorter side, pixels
    generate: bool = False  # the output is written left to right from what was already written
    runtime: str | None = None  # "onnxruntime-cpu", "tensorrt" …: the device's own when silent
    precision: str | None = None  # "fp32", "fp16", "int16", "int8": the one that must ship


@dataclass(frozen=True, slots=True)
class Verdict:
    """One thing a rule said about a candidate."""

    rule: str
    effect: Effect
    weight: float
    because: str
    source: str
    facts: tuple[str, ...] = ()  # the conditions as they matched, "request.streaming is true"
    follows: tuple[str, ...] = ()  # what it derives, sets or adds: "derived.weights is int8", "prune.align is 16", "stage prune"


@dataclass(frozen=True, slots=True)
class Prediction:
    """A predicted latency with a 90 % interval. `kind` labels it: an estimate from rates, or a calibrated prediction."""

    low_ms: float
    mid_ms: float
    high_ms: float
    precision: str
    kind: Kind
    basis: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A compression stage the rules chose, with the settings they set and the rule that asked for it."""

    name: str
    settings: Mapping[str, Value]
    because: str
    rule: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """An architecture variant with everything that was said about it."""

    architecture: str
    variant: str
    role: str
    score: float
    status: Status
    because: str
    source: str
    verdicts: tuple[Verdict, ...] = ()
    prediction: Prediction | None = None
    size_bytes: int | None = None
    size_kind: Kind = "estimate"  # "measured": the file of the untrained graph was weighed, in the precision that ships
    params: int | None = None
    teacher: str = ""
    weights: str = ""  # "hub" where what is trained first may start from published weights
    stages: tuple[PlannedStage, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    title: str = ""


@dataclass(frozen=True, slots=True)
class Flip:
    """What would change the answer: this fact, crossed at this value, makes that the pick ("" when then nothing fits).

    `adds` and `drops` are the compression stages that come and go when the pick stays.
    """

    fact: str
    now: Value | None
    threshold: Value
    direction: Direction
    pick: str
    rule: str
    adds: tuple[str, ...] = ()
    drops: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The answer. `kept` is ranked, best first, references last.

    It is empty when nothing fits, with the nearest miss named. The pick is the first of `kept` that is no reference (`rules.ranking.pick`).
    """

    request: Request
    device: Device
    kept: tuple[Candidate, ...]
    refused: tuple[Candidate, ...]
    flips: Sequence[Flip] = ()  # worked out when first looked at
    nearest_miss: str = ""
    binding: str = ""
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    article: ArticlePick | None = None
    sources: tuple[Source, ...] = field(default=())
    row: TaskRow | None = None  # the task's row of the matrix
