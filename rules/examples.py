"""The nouns of a task: what goes into a model, what comes out, what a batch, a sample and a score are.

They live here because the tasks (`advisor`) make them and the stages (`compress`) use them. No numpy at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from numpy.typing import NDArray

Feeds: TypeAlias = "Mapping[str, NDArray[Any]]"  # named arrays, as onnxruntime takes and returns them


BESIDE_ERRORS = frozenset({"mae", "log loss"})  # further figures of a score that are errors; every other is a share that is right


@dataclass(frozen=True, slots=True)
class Metric:
    """A task's headline number. `unit` is printed behind it; values are stored as fractions."""

    name: str
    better: Literal["lower", "higher"]
    unit: str = "%"


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of a graph. A string in `shape` names a dynamic axis; `ranges` gives its (min, max, multiple).

    `values` bounds the integers of an input, (lowest, highest): indices of an embedding, for example. `decides`: whether an output's
    largest value along its last axis is a decision (class scores are, forecasts are not).
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    ranges: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    values: tuple[int, int] | None = None
    decides: bool = True


@dataclass(frozen=True, slots=True)
class Signature:
    """What goes into a model and what comes out."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Equally shaped examples: `inputs` feed the model, `targets` the loss. `ids` name the examples in messages."""

    inputs: Feeds
    targets: Feeds
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """A metric with what is behind it. `value` is sum(errors) / sum(weights); both are per example, so two scores pair up.

    A metric that is no such sum (an area under a curve, BLEU, a mean over classes) brings `over`: its value over the examples of
    these rows, some of them several times. `errors` and `weights` then only say which examples went how wrong.
    """

    metric: Metric
    value: float
    errors: NDArray[Any]
    weights: NDArray[Any]
    also: Mapping[str, float] = field(default_factory=dict)  # further figures, e.g. exact-line accuracy
    over: Callable[[NDArray[Any]], float] | None = field(default=None, compare=False)


# How a reading stands to the truth of a sample: the same text but for errors, right or wrong as a whole, or a figure of its own kind.
Answers = Literal["text", "class", "figures"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One raw example: the file as people have it, the array it becomes, what it says."""

    name: str
    raw: bytes  # e.g. a PNG file
    inputs: Feeds  # batch of one
    truth: str
    suffix: str = ""  # of the raw file where its first bytes do not tell: "wav", "txt", "json"
    picture: bytes = b""  # a PNG to show where the raw file is no image
    draw: Callable[[Mapping[str, Feeds]], bytes] | None = None  # a picture with the outputs of "float" and "shipped" drawn in


@dataclass(frozen=True, slots=True)
class Seen:
    """One example with an explanation of its answer drawn into it: a PNG file, and a line that says what is to be seen."""

    name: str
    says: str
    picture: bytes


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a model's answers hang on, for a person to look at: pictures, or lines of text. `caveat` is shown beside it, always.

    A task makes them of a trained module and its data (`explain(model, data)`, see `compress.context.Explains`), or of what the shipped
    file answers (`explain_answers(predict, data)`, see `compress.context.ExplainsAnswers`).
    """

    title: str
    caveat: str  # what it does not show
    source: str  # of the method, as a person would cite it
    seen: tuple[Seen, ...] = ()
    lines: tuple[str, ...] = ()  # what was measured
    rules: tuple[str, ...] = ()  # that were extracted, what covers most first
    figures: Mapping[str, float] = field(default_factory=dict)  # what was measured, for programs
