"""The pipeline: runs a plan, measures every result one way, keeps what pays, rolls back what does not, resumes anywhere.

A run folder holds `run.json` (what was asked), `journal.jsonl` (every measured decision, written before it is acted on),
one folder a stage under `stages/`, and at the end `record.json`. What a finished stage left is never computed again:
the journal says it is done, its files carry their SHA-256.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress import payoff, warm_start
from compress.context import Context, Data, Latencies, Progress, Silent, Skipped, Target, Task
from compress.export import export
from compress.files import sha256, write_json
from compress.journal import Journal
from compress.payoff import Payoff
from compress.plan import FROM_FLOAT, MODULE_STAGES, Plan, Step, as_table
from compress.points import Point, from_dict, measure, paired, ratio
from compress.ranks import ALONE, Ranks, SharedJournal
from compress.weights import ModelSpec, digest, load, save
from rules.problems import Problem, bad_input

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Job:
    """What to run: a plan over a task's data, starting from a spec to train, a module that is trained, or just a file."""

    plan: Plan
    task: Task
    data: Data
    student: ModelSpec | None = None
    teacher: ModelSpec | None = None
    trained: nn.Module | None = None  # the student's weights are given: no training needed
    trained_teacher: nn.Module | None = None
    graph: Path | None = None  # only a file: graph stages alone
    target: Target = field(default_factory=Target)
    recommendation: Mapping[str, Any] | None = None
    threads: int = 2
    val_limit: int = 1000
    train_on: str = "cpu"  # torch device of the module stages; every file is made, scored and timed on onnxruntime


@dataclass(slots=True)
class State:
    """What a run has in hand. Modules are loaded when a stage asks for them."""

    module: Callable[[], nn.Module] | None = None
    teacher: Callable[[], nn.Module] | None = None
    point: Point | None = None  # the module stages' latest kept point
    teacher_graph: Path | None = None
    float_graph: Path | None = None
    float_point: Point | None = None
    best: Path | None = None  # best-scored quantized file so far
    best_point: Point | None = None
    best_stage: str = ""
    reference: Path | None = None
    yardstick: dict[str, float] | None = None
    stages: list[dict[str, Any]] = field(default_factory=list)
    controls: list[dict[str, Any]] = field(default_factory=list)
    curves: list[dict[str, Any]] = field(default_factory=list)


class Run:
    """One run in one folder, which the caller owns (`compress.files.owned`); of several processes the first one's caller."""

    def __init__(self, job: Job, folder: Path, *, latencies: Latencies, progress: Progress | None = None, ranks: Ranks = ALONE) -> None:
        self.job = job
        self.folder = folder
        self.latencies = latencies
        self.progress = progress or Silent()
        self.ranks = ranks
        if ranks.leads:
            self._claim()
        self.journal = Journal(folder / "journal.jsonl") if ranks.size == 1 else SharedJournal(folder / "journal.jsonl", ranks)
        self.state = State()

    def _claim(self) -> None:
        """Write what is asked, or refuse a folder that holds another run."""
        asked = {
            "schema_version": 1,
            "plan": as_table(self.job.plan),
            "student": asdict(self.job.student) if self.job.student else None,
            "teacher": asdict(self.job.teacher) if self.job.teacher else None,
            "target": asdict(self.job.target),
            "data": dict(self.job.data.provenance),
            "threads": self.job.threads,
            "given": self._given_digests() or None,
        }
        path = self.folder / "run.json"
        if not path.exists():
            write_json(path, asked)
            return
        import json

        found = json.loads(path.read_text(encoding="utf-8"))
        plain = json.loads(json.dumps(asked))
        for key in plain:
            if found.get(key) != plain[key]:
                raise Problem(f"{self.folder} holds a run with another {key}", remedy="choose another --out folder, or remove this one")

    def _given_digests(self) -> dict[str, str]:
        """What came trained, by its bytes: a folder is not continued with another model under the same name."""
        modules = {"module": self.job.trained, "teacher": self.job.trained_teacher}
        found = {name: digest(module) for name, module in modules.items() if module is not None}
        files = {"graph": self.job.graph, "weights": Path(self.job.plan.weights) if self.job.plan.weights else None}
        return {**found, **{name: sha256(path) for name, path in files.items() if path is not None and path.is_file()}}

    def through(self) -> State:
        """Run every stage of the plan that is not done yet."""
        job, state = self.job, self.state
        if job.trained is not None:
            given = job.trained
            state.module = lambda: given
            self._enter_with_module(given, "given")
        elif job.student is not None:
            spec = job.student
            weights = "" if job.teacher is not None and job.plan.has("distil") else job.plan.weights
            state.module = lambda: _fresh(spec, job.plan.seed, weights)
        if job.trained_teacher is not None:
            self._enter_with_module(job.trained_teacher, "teacher")
        if job.graph is not None:
            self._enter_with_file(job.graph)
        for index, step in enumerate(job.plan.steps):
            self._stage(f"{index:02d}-{step.name}", step)
        return state

    # -- one stage ---------------------------------------------------------------------------------------------------

    def _stage(self, key: str, step: Step) -> None:
        done = f"{key}/done"
        if not self.ranks.leads:
            self._take_part(key, step)
        elif done not in self.journal:
            self.progress.say(f"{step.name}: {step.because or _card(step.name)}")
            started = time.monotonic()
            entry = self._compute(key, step)
            entry["seconds"] = round(time.monotonic() - started, 1)
            self.journal.record(done, entry)
            self.progress.say(f"  {entry['status']}: {entry['reason']}")
        self._adopt(key, step, self.journal[done])

    def _take_part(self, key: str, step: Step) -> None:
        """Beside the first process: train where it trains, wait where it works alone, go on when it is done."""
        done = f"{key}/done"
        if done not in self.journal and step.name in MODULE_STAGES:
            with suppress(Skipped):
                self._applied(step, self._context(key, step))
        self.journal.decide(done, _never)

    def _compute(self, key: str, step: Step) -> dict[str, Any]:
        context = self._context(key, step)
        try:
            if step.name in MODULE_STAGES:
                return self._module_stage(key, step, context)
            if step.name == "export":
                return self._door(key, step)
            return self._graph_stage(key, step, context)
        except Skipped as reason:
            return {"status": "skipped", "reason": str(reason), "before": None, "after": None}

    def _context(self, key: str, step: Step) -> Context:
        folder = self.folder / "stages" / key
        folder.mkdir(parents=True, exist_ok=True)
        return Context(
            task=self.job.task,
            data=self.job.data,
            folder=folder,
            journal=self.journal,
            latencies=self.latencies,
            target=self.job.target,
            progress=self.progress,
            seed=self.job.plan.seed,
            threads=self.job.threads,
            device=self.job.train_on if step.name in MODULE_STAGES else "cpu",
            ranks=self.ranks if step.name in MODULE_STAGES else ALONE,
            float_graph=self.state.float_graph,
            teacher_graph=self.state.teacher_graph,
        )

    # -- module stages -----------------------------------------------------------------------------------------------

    def _trains_teacher(self, step: Step) -> bool:
        return step.name == "train" and self.job.teacher is not None and self.job.plan.has("distil")

    def _module_stage(self, key: str, step: Step, context: Context) -> dict[str, Any]:
        spec, result = self._applied(step, context)
        save(result, spec, context.folder, "module")
        graph = export(result, self.job.data, context.folder / "model.onnx", target=self.job.target)
        before = self.state.point
        after = self._point(key, graph, params=sum(p.numel() for p in result.parameters()))
        verdict = self._judge_module(step, before, after)
        return self._entry(verdict, before, after, curves=context.curves)

    def _applied(self, step: Step, context: Context) -> tuple[ModelSpec, nn.Module]:
        """The module that the stage makes, and its spec."""
        if step.name == "train" and self._given(step):
            raise Skipped("trained weights were given")
        spec = self.job.teacher if self._trains_teacher(step) else self.job.student
        if self._trains_teacher(step):
            assert self.job.teacher is not None
            module = _fresh(self.job.teacher, self.job.plan.seed, self.job.plan.weights)
        else:
            if self.state.module is None:
                raise Skipped("there is no module here, only a file")
            module = self.state.module()
            context.teacher = self.state.teacher() if self.state.teacher else None
        if step.name == "distil" and context.teacher is None:
            raise Skipped("there is no teacher to learn from")
        result = step.settings.apply(module, context)
        assert spec is not None  # a module stage has a module, and every module a spec
        return spec, result

    def _given(self, step: Step) -> bool:
        return self.job.trained_teacher is not None if self._trains_teacher(step) else self.job.trained is not None

    def _judge_module(self, step: Step, before: Point | None, after: Point) -> Payoff:
        metric = self.job.task.metric
        if step.name == "train" or before is None:
            return payoff.trained(metric, after)
        return payoff.smaller(metric, before, after, max_drop=self.job.plan.max_drop if step.max_drop is None else step.max_drop)

    # -- the door ----------------------------------------------------------------------------------------------------

    def _door(self, key: str, step: Step) -> dict[str, Any]:
        if self.state.module is None:
            raise Skipped("the model came as a file")
        folder = self.folder / "stages" / key
        graph = export(self.state.module(), self.job.data, folder / "model.onnx", target=self.job.target)
        before = self.state.point
        after = self._point(key, graph, params=before.params if before else None)
        return self._entry(Payoff("kept", f"{graph.stat().st_size // 1000} kB, agrees with the module it came from"), before, after)

    def _enter_with_module(self, module: nn.Module, name: str) -> None:
        """A module that came trained: what it becomes is compared with it, recovers towards it and is timed beside it."""
        graph = self.folder / "stages" / name / "model.onnx"
        if self.ranks.leads and f"{name}/point" not in self.journal:
            export(module, self.job.data, graph, target=self.job.target)
        parameters = sum(p.numel() for p in module.parameters())
        point = from_dict(self.journal.decide(f"{name}/point", lambda: self._measure(graph, parameters).as_dict()))
        self.state.teacher, self.state.teacher_graph, self.state.point = lambda: module, self._checked(point), point
        self._reference(graph, point)

    def _enter_with_file(self, graph: Path) -> None:
        target = self.folder / "stages" / "given" / "model.onnx"
        if self.ranks.leads and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_suffix(".part")
            shutil.copyfile(graph, part)
            part.replace(target)
        self.state.float_graph = target
        point = from_dict(self.journal.decide("given/point", lambda: self._measure(target, None).as_dict()))
        self.state.float_point = point
        self._reference(target, point)

    # -- graph stages ------------------------------------------------------------------------------------------------

    def _graph_stage(self, key: str, step: Step, context: Context) -> dict[str, Any]:
        state, metric = self.state, self.job.task.metric
        if state.float_graph is None or state.float_point is None:
            raise Skipped("nothing was exported")
        start = state.float_graph if step.name in FROM_FLOAT else state.best
        if start is None:
            raise Skipped("there is no quantized file to repair")
        before = state.float_point if step.name in FROM_FLOAT else state.best_point
        assert before is not None
        if self._not_needed(step):
            lost = payoff.drop(metric, state.float_point.metric, before.metric)
            raise Skipped(
                f"the quantized file loses {payoff.show_drop(metric, lost)}, within the {payoff.show_drop(metric, step.settings.max_loss)} the plan allows"
            )
        graph = step.settings.apply(start, context)
        after = self._point(key, graph, params=state.float_point.params)
        if step.name == "four_bit":
            verdict = payoff.compact(metric, before, state.best_point, after, max_drop=self.job.plan.max_drop)
        elif step.name in FROM_FLOAT:
            repairs = any(self.job.plan.has(name) for name in ("equalize", "adaround", "qat"))
            verdict = payoff.quantized(metric, before, after, max_drop=self.job.plan.max_drop, repairs=repairs)
        else:
            verdict = payoff.repaired(metric, before, after)
        entry = self._entry(verdict, before, after, curves=context.curves)
        if step.name == "qat":
            entry["controls"] = self._controls(key, step, context)
        return entry

    def _not_needed(self, step: Step) -> bool:
        if getattr(step.settings, "when", "always") != "needed":
            return False
        assert self.state.best_point is not None and self.state.float_point is not None
        lost = payoff.drop(self.job.task.metric, self.state.float_point.metric, self.state.best_point.metric)
        return bool(lost <= step.settings.max_loss)

    def _controls(self, key: str, step: Step, context: Context) -> list[dict[str, Any]]:
        """What keeps qat honest: plain fine-tuning of the float graph for the same steps, then quantized the same way."""
        from compress.stages.qat import FloatControl

        assert self.state.float_graph is not None
        if not getattr(step.settings, "control", True):
            return []
        inside = self._context(f"{key}/control", step)
        graph = FloatControl.like(step.settings).apply(self.state.float_graph, inside)
        after = self._point(f"{key}/control", graph, params=None)
        reason = f"plain fine-tuning for the same {step.settings.steps} steps, then quantized: {self.job.task.metric.name} {payoff.show(self.job.task.metric, after.metric)}"
        return [{"name": "float fine-tuning + quantize", **self._entry(Payoff("control", reason), self.state.float_point, after)}]

    # -- measuring ---------------------------------------------------------------------------------------------------

    def _point(self, key: str, graph: Path, *, params: int | None) -> Point:
        return from_dict(self.journal.decide(f"{key}/point", lambda: self._measure(graph, params).as_dict()))

    def _measure(self, graph: Path, params: int | None) -> Point:
        self.progress.start(f"measuring {graph.parent.name}", 1)
        point = measure(
            graph,
            run=self.folder,
            data=self.job.data,
            latencies=self.latencies,
            reference=self.state.reference or graph,
            yardstick=self.state.yardstick,
            threads=self.job.threads,
            limit=self.job.val_limit,
            params=params,
        )
        self.progress.finish(f"{self.job.task.metric.name} {payoff.show(self.job.task.metric, point.metric)}")
        return point

    def _reference(self, graph: Path, point: Point) -> None:
        """The first measured file is the yardstick of every latency in the run."""
        if self.state.reference is None:
            self.state.reference = graph
            self.state.yardstick = dict(point.latency_ms)

    def _entry(
        self, verdict: Payoff, before: Point | None, after: Point | None, *, curves: list[dict[str, Any]] | None = None
    ) -> dict[str, Any]:
        return {
            "status": verdict.status,
            "reason": verdict.reason,
            "before": before.as_dict() if before else None,
            "after": after.as_dict() if after else None,
            "curves": list(curves or []),
        }

    # -- what a done stage leaves ------------------------------------------------------------------------------------

    def _adopt(self, key: str, step: Step, entry: Mapping[str, Any]) -> None:
        """Take a finished stage's result into the state, the same way after computing it and after resuming."""
        state = self.state
        listed = {name: value for name, value in entry.items() if name not in ("curves", "controls")}
        decisions = {name.removeprefix(f"{key}/"): value for name, value in self.journal.items() if name.startswith(f"{key}/")}
        decisions = {name: value for name, value in decisions.items() if name not in ("done", "point") and not name.startswith("control/")}
        state.stages.append(
            {"index": len(state.stages), "name": step.name, **listed, "settings": asdict(step.settings), "decisions": decisions}
        )
        state.curves.extend(entry.get("curves", []))
        state.controls.extend(entry.get("controls", []))
        if entry["after"] is None:
            return
        point = from_dict(entry["after"])
        graph = self._checked(point)
        self._reference(graph, point)
        folder = self.folder / "stages" / key
        if step.name in MODULE_STAGES and self._trains_teacher(step):
            state.teacher = lambda: load(folder, "module")[0]
            state.teacher_graph, state.point = graph, point
            return
        if entry["status"] != "kept":
            if step.name == "distil":
                state.module = state.teacher  # the student did not pay: the teacher goes on alone
            return
        if step.name in MODULE_STAGES:
            state.module = lambda: load(folder, "module")[0]
            state.point = point
            if state.teacher is None and step.name == "train":
                state.teacher = state.module  # pruning recovers towards the unpruned model
        elif step.name == "export":
            state.float_graph, state.float_point = graph, point
        else:
            state.best, state.best_point, state.best_stage = graph, point, step.name

    def _checked(self, point: Point) -> Path:
        graph = self.folder / point.file
        if not graph.is_file() or sha256(graph) != point.sha256:
            raise bad_input(f"{graph} is missing or damaged", remedy=f"remove {self.folder} and run again")
        return graph

    # -- what ships --------------------------------------------------------------------------------------------------

    def shipped(self) -> tuple[str, Path, Point, Payoff]:
        """The best-scored file, whichever stage made it; the float file when no quantized one pays."""
        state = self.state
        if state.float_graph is None or state.float_point is None:
            raise Problem("the plan exports nothing, so there is nothing to ship", remedy='add [[stage]] name = "export"')
        verdict = payoff.ships(
            self.job.task.metric,
            state.float_point,
            state.best_point,
            max_drop=self.job.plan.max_drop,
            by_size=state.best_stage == "four_bit",
        )
        if verdict.status == "kept":
            assert state.best is not None and state.best_point is not None
            return state.best_stage, state.best, state.best_point, verdict
        return "export", state.float_graph, state.float_point, verdict

    def latency_ratio(self, graph: Path, against: Path) -> tuple[float, dict[str, dict[str, float]]]:
        """Latency of `graph` over that of `against`, one interleaved run, journaled."""
        key = f"final/paired/{graph.parent.name}-{against.parent.name}"
        found = self.journal.decide(key, lambda: paired({"this": graph, "against": against}, self.job.data, self.latencies, threads=1))
        return ratio(found["this"], found["against"]), found


def _never() -> Any:
    raise AssertionError("only the first process decides")


def _fresh(spec: ModelSpec, seed: int, weights: str = "") -> nn.Module:
    """The module of `spec` with initial weights that depend on the seed alone, or on the `weights` it starts from.

    These are no part of its spec: what is stored has its own, and is built again without them.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return warm_start.build(spec, weights)


def _card(name: str) -> str:
    """First line of a stage module's docstring."""
    from importlib import import_module

    if name == "export":
        return "the door from module to file"
    return (import_module(f"compress.stages.{name}").__doc__ or "").strip().splitlines()[0]
