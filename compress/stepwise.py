"""The net that ships, cut for writing one word after another: what was read is kept, so a word costs one step instead of all again.

Idea: a task whose nets write says how its module is cut ("step", and "encoder" where a source is read once). The cuts leave by the same
door as the whole, in dynamic int8 where the whole ships so and the cut keeps the score, else in float. They answer as the whole graph
does, so the task's own metric is taken through them, asked for one word at a time, on the same test examples.
Source: keys and values kept from step to step as in Vaswani et al. 2017, arXiv:1706.03762, and incremental decoding as fairseq and Marian do it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.beside import Part
from compress.context import Data, Predict
from compress.export import export
from compress.graph.reading import read
from compress.payoff import drop, show
from compress.quantization import finish, prepare
from compress.reader.steps_cache import Remembering
from compress.runtime import predictor
from rules.examples import Feeds
from rules.problems import Problem

if TYPE_CHECKING:
    from compress.pipeline import Run

EXAMPLES = 100  # test examples that whole and cut are scored on
INTEGER = frozenset({"MatMulInteger", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"})
KEPT = ("QuantizeLinear", "DequantizeLinear", "MatMulNBits")


def made(run: Run, shipped: Path) -> dict[str, Any] | None:
    """Make the parts of what ships; what was measured of them, as plain JSON. Nothing where the task or the net does not write.

    A net that cannot be cut ships whole, and the facts say why.
    """
    modules = _modules(run)
    if not modules:
        return None
    try:
        found = {"float32": _float(run, modules)}
    except Problem as problem:
        return {"parts": [], "reason": problem.what}
    if _dynamic(shipped):
        found["dynamic int8"] = [_integer(run, part) for part in found["float32"]]
    return _chosen(run, found, shipped)


def recorded(run: Run, facts: Mapping[str, Any] | None) -> list[Part]:
    """The parts that `made` tells of, for the bundle."""
    if not facts or not facts["parts"]:
        return []
    modules = _modules(run)
    return [Part(part["role"], run.folder / part["file"], modules[part["role"]][1]) for part in facts["parts"]]


def _modules(run: Run) -> Mapping[str, tuple[Any, Data]]:
    """The module of what ships, cut; empty where nobody knows how."""
    cut = getattr(run.job.task, "stepwise", None)
    if cut is None or run.state.module is None or run.job.graph is not None:
        return {}
    found: Mapping[str, tuple[Any, Data]] = cut(run.state.module(), run.job.data)
    return found


def _float(run: Run, modules: Mapping[str, tuple[Any, Data]]) -> list[Part]:
    folder = run.folder / "stepwise" / "float32"
    return [Part(role, export(one, data, folder / f"{role}.onnx", target=run.job.target), data) for role, (one, data) in modules.items()]


def _integer(run: Run, part: Part) -> Part:
    folder = run.folder / "stepwise" / "int8"
    ready = prepare(part.file, folder / "ready" / part.file.name)
    return Part(part.role, finish(ready, folder / part.file.name, recipe="dynamic", format=run.job.target), part.data)


def _dynamic(shipped: Path) -> bool:
    """Whether the file computes in dynamic int8 alone, as its parts can be made to do."""
    operators = Counter(node.op for node in read(shipped).nodes)
    return any(operators[name] for name in INTEGER) and not any(operators[name] for name in KEPT)


def _chosen(run: Run, found: Mapping[str, list[Part]], shipped: Path) -> dict[str, Any]:
    """The parts in the format that keeps the whole's score, integers first; scores are taken once."""
    metric, limit = run.job.task.metric, run.job.plan.max_drop
    run.progress.start("writing step by step", 1 + len(found))
    scores = {"whole": _score(run, "whole", lambda: predictor(shipped))}
    for number, name in enumerate(reversed(list(found)), 1):
        run.progress.step(number)
        scores[name] = _score(run, name, lambda parts=found[name]: asked(parts))  # type: ignore[misc]
        if name == "float32" or drop(metric, scores["whole"], scores[name]) <= limit:
            break
    run.progress.finish(f"{metric.name} {show(metric, scores[name])}, the whole graph {show(metric, scores['whole'])}")
    return {
        "parts": [
            {"role": part.role, "file": str(part.file.relative_to(run.folder)), "size_bytes": part.file.stat().st_size}
            for part in found[name]
        ],
        "format": name,
        "scores": scores,
        "examples": min(EXAMPLES, run.job.data.count("test")),
    }


def _score(run: Run, name: str, predict: Callable[[], Predict]) -> float:
    return float(run.journal.decide(f"final/stepwise/{name}", lambda: run.job.data.score(predict(), "test", limit=EXAMPLES).value))


def asked(parts: list[Part]) -> Predict:
    """The parts as the whole graph is asked, one word at a time: scores at every place of what is fed."""
    call = {part.role: predictor(part.file) for part in parts}
    shapes = {port.name: port.shape for part in parts if part.role == "step" for port in part.data.signature.inputs}

    def remembering() -> Remembering:
        return Remembering(call["step"], shapes["past"], call.get("encoder"), shapes.get("memory", ("batch",)))

    ask = remembering()

    def predict(feeds: Feeds) -> dict[str, np.ndarray]:
        if "source" in feeds:  # a translation grows by a word a call
            return ask(dict(feeds))
        each, ids = remembering(), feeds["ids"]
        found = [each({"ids": ids[:, :place]})["logits"] for place in range(1, ids.shape[1] + 1)]
        return {"logits": np.concatenate(found, axis=1)}

    return predict
