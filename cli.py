"""The `advisor` command: one thin function a verb. Reads, calls, prints what the room that owns the value renders.

stdout carries the result only; progress and notes go to stderr. Nothing here imports torch before a verb needs it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from rules.problems import Exit, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from compress.context import Data, Task

VERSION = "0.1.0"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(VERSION, prog_name="advisor")
def advisor() -> None:
    """Which architecture, how small, how fast: advice with sources, and a pipeline to a verified ONNX bundle."""


def with_knowledge(command: Any) -> Any:
    """A user's own folder of knowledge, for a verb that takes it as `overlay`."""
    said = "Your own knowledge over ours, read and never executed: devices, evidence, house rules."
    kind = click.Path(path_type=Path)
    return click.option("--knowledge", "overlay", metavar="FOLDER", type=kind, envvar="ADVISOR_KNOWLEDGE", help=said)(command)


ABOVE_ZERO = click.FloatRange(min=0, min_open=True)
STATED = (  # what a request can say
    click.option("--task", required=True, help="What the model is for, e.g. ocr. `advisor matrix` lists all."),
    click.option("--device", default="this-machine", show_default=True, help="Where it runs. `advisor devices` lists all."),
    click.option("--latency-ms", type=ABOVE_ZERO, help="Latency budget, milliseconds a call, batch 1."),
    click.option(
        "--percentile", type=click.Choice(["p50", "p90", "p99"]), default="p50", help="Of the calls that meet it.  [default: p50]"
    ),
    click.option("--size-mb", type=ABOVE_ZERO, help="Size budget of the shipped file, megabytes."),
    click.option("--ram-mb", type=ABOVE_ZERO, help="Memory budget, megabytes."),
    click.option("--flash-mb", type=ABOVE_ZERO, help="Flash for the model, megabytes, without the runtime."),
    click.option(
        "--energy", type=click.Choice(["milliwatt", "watt", "mains"]), help="What feeds the device: a coin cell, a battery, the wall."
    ),
    click.option("--streaming", "--causal", "streaming", is_flag=True, help="Answers are needed before the input ends."),
    click.option("--generate", is_flag=True, help="It writes from left to right, reading what it wrote."),
    click.option("--examples", type=click.IntRange(min=0), help="How many labelled examples there are."),
    click.option("--per-class", type=click.IntRange(min=0), help="How many labelled examples each class has."),
    click.option("--classes", type=click.IntRange(min=1), help="How many classes there are."),
    click.option("--length", type=click.IntRange(min=1), help="Length of an input: steps, tokens or samples."),
    click.option("--resolution", type=click.IntRange(min=1), help="Shorter side of an image, pixels."),
    click.option("--charset", help="The characters to read (ocr)."),
    click.option("--pretrained/--no-pretrained", default=None, help="Whether pretrained weights may be used."),
    click.option("--explain", is_flag=True, help="Decisions must be explainable to people."),
    click.option("--permissive", is_flag=True, help="Only permissive licences, code and weights."),
    click.option("--runtime", help="Which of the device's runtimes runs it."),
    click.option("--precision", type=click.Choice(["fp32", "fp16", "int16", "int8"]), help="The numbers that must ship."),
)


def with_request(command: Any) -> Any:
    """Every fact that a request can state, as options."""
    for option in reversed(STATED):
        command = option(command)
    return command


# -- advice ----------------------------------------------------------------------------------------------------------


@advisor.command()
@with_request
@click.option("--format", "form", type=click.Choice(["table", "json", "md"]), default="table", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the plan to this file.")
@click.option("--measure", is_flag=True, help="Build the first candidates, time them on this machine and judge by that. Needs torch.")
@click.option("--top", type=click.IntRange(1, 50), default=3, show_default=True, help="How many candidates --measure times.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@with_knowledge
def recommend(
    task: str, device: str, form: str, output: Path | None, measure: bool, top: int, quiet: bool, overlay: Path | None, **limits: Any
) -> None:
    """Recommend an architecture and a compression plan: why, why not the others, and what would change the answer."""
    from advisor.answer import recommendation as render
    from advisor.asking import request
    from advisor.last import remember
    from advisor.recommend import plan_toml
    from advisor.recommend import recommend as judge
    from rules.knowledge import load

    asked, known, plan = request(task, device, **limits), load(overlay), str(output) if output else ""
    answer = judge(asked, known)
    found = _measured(answer, known, top=top, quiet=quiet) if measure else None
    if found is None:
        click.echo(render(answer, form, plan=plan))
    else:
        answer = judge(asked, known)  # by what was measured
        click.echo(found.beside(answer, form, plan=plan))
    remember(answer, plan=plan)
    if output is None:
        return
    from compress.files import write_text

    write_text(output, plan_toml(answer))
    click.echo(f"plan written to {output}", err=True)


def _measured(answer: Any, known: Any, *, top: int, quiet: bool) -> Any:
    """Build and time the first candidates of an answer here, and store what was found: the report of predicted against measured."""
    from datetime import UTC, datetime

    from advisor.evidence_store import add
    from advisor.measuring import Report, facts, nets, refuse_elsewhere, rest, rows

    refuse_elsewhere(answer)
    chosen = nets(answer, known, top=top)
    if not chosen:
        return Report([], rest(answer, [], {}))
    from compress.measuring import measure
    from compress.progress import choose
    from compress.runtime import environment
    from compress.target import target_for

    times = measure(chosen, target=target_for(answer.device), precisions=answer.device.precisions, progress=choose(quiet=quiet))
    runtime, at = str(environment()["onnxruntime"]), datetime.now(UTC).isoformat(timespec="seconds")
    add(facts(answer, chosen, times.timed, spread=times.spread, runtime=runtime, at=at))
    return Report(rows(chosen, times.timed), rest(answer, chosen, times.failed), spread=times.spread, noisy=times.noisy)


@advisor.command()
@with_request
@click.option("--format", "form", type=click.Choice(["table", "json", "md"]), default="table", show_default=True)
@with_knowledge
def whatif(task: str, device: str, form: str, overlay: Path | None, **limits: Any) -> None:
    """At which values of each limit, and with which other wishes, `advisor recommend` answers differently."""
    from advisor.asking import request
    from advisor.whatif import changes, render
    from rules.knowledge import load

    click.echo(render(changes(request(task, device, **limits), load(overlay)), form))


@advisor.command()
@click.option("--format", "form", type=click.Choice(["table", "json", "md", "html"]), default="table", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write it to this file.")
@with_knowledge
def matrix(form: str, output: Path | None, overlay: Path | None) -> None:
    """The task-fit matrix: every task, its candidates, fit, status, licences, evidence and sources."""
    from advisor.answer import matrix as render
    from rules.knowledge import load

    text = render(load(overlay), form)
    if output is None:
        click.echo(text)
        return
    from compress.files import write_text

    write_text(output, text.rstrip("\n") + "\n")
    click.echo(f"matrix written to {output}", err=True)


@advisor.command()
@click.option("--format", "form", type=click.Choice(["table", "json", "md"]), default="table", show_default=True)
@with_knowledge
def devices(form: str, overlay: Path | None) -> None:
    """The known devices: what each can do, and where its numbers come from."""
    from advisor.answer import devices as render
    from rules.knowledge import load

    click.echo(render(load(overlay), form))


@advisor.command()
@click.option("--seconds", type=click.FloatRange(15, 3600), default=60.0, show_default=True, help="How long to measure.")
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, show_default=True, help="Which random nets to measure on.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write the device file here.  [default: where this-machine is looked for]"
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def calibrate(seconds: float, seed: int, output: Path | None, quiet: bool) -> None:
    """Measure this machine's kernels, so that predictions for it have measured rates and a narrow interval."""
    from dataclasses import replace

    from advisor.catalogue import rate_in_words
    from advisor.this_machine import calibrated_file, detect
    from compress.calibrate import calibrate as measure
    from compress.files import write_text
    from compress.progress import choose
    from compress.target import target_for
    from rules.device_file import text

    device = detect()
    found = measure(device, target=target_for(device), seconds=seconds, seed=seed, progress=choose(quiet=quiet))
    path = output or calibrated_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text(replace(found, name=path.stem if output else found.name)))
    for name, rate in found.rates.items():
        click.echo(f"{name:<8}{rate_in_words(rate)}")
    click.echo(f"written to {path}", err=True)


@advisor.group()
def evidence() -> None:
    """What was measured on this machine: later recommendations for it prefer that to what they would predict."""


ONE_ARCHITECTURE = click.option("--architecture", metavar="NAME", help="Only what was measured of NAME.")


@evidence.command("list")
@ONE_ARCHITECTURE
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def evidence_list(architecture: str | None, form: str) -> None:
    """Every fact in the store, the oldest first."""
    from advisor.evidence import listed, matching

    click.echo(listed(matching((), architecture), form))


@evidence.command("export")
@click.argument("folder", type=click.Path(path_type=Path))
@ONE_ARCHITECTURE
def evidence_export(folder: Path, architecture: str | None) -> None:
    """Write the newest facts into FOLDER as evidence that --knowledge FOLDER reads, with the sources it cites."""
    from advisor.evidence import exported, matching
    from compress.files import write_text

    files, unknown = exported(matching((), architecture), folder)
    for name, text in reversed(files.items()):  # the sources first: evidence that cites none is refused
        click.echo(write_text(folder / name, text))
    for name in unknown:
        click.echo(f"left out: {name}, which neither we nor {folder} have a card for", err=True)


@evidence.command("forget")
@click.argument("ids", metavar="[ID]...", type=click.IntRange(min=1), nargs=-1)
@ONE_ARCHITECTURE
@click.option("--all", "everything", is_flag=True, help="All there is.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def evidence_forget(ids: tuple[int, ...], architecture: str | None, everything: bool, yes: bool) -> None:
    """Take facts out of the store, by ID (`advisor evidence list` shows them), by architecture, or all."""
    from advisor.evidence import matching
    from advisor.evidence_store import forget

    if not (ids or architecture or everything) or (everything and (ids or architecture)):
        raise click.UsageError("say which: IDs, --architecture NAME, or --all")
    facts = matching(ids, architecture)
    what = f"{len(facts)} fact{'' if len(facts) == 1 else 's'}"
    if facts and not yes:
        if not sys.stdin.isatty():
            raise Problem(f"{what} would be forgotten, and there is nobody to ask", remedy="--yes")
        if not click.confirm(f"forget {what}?", err=True):
            click.echo("nothing was forgotten")
            return
    click.echo(f"forgot {forget(fact.id for fact in facts)} of {what}")


@advisor.command()
@click.argument("term", required=False)
@click.option("--last", is_flag=True, help="The rule chain of the last answer of `advisor recommend`, instead of TERM.")
@click.option("--why-not", metavar="NAME", help="Why NAME is not the pick of the last answer.")
@click.option("--format", "form", type=click.Choice(["table", "json", "md"]), default="table", show_default=True)
@with_knowledge
def explain(term: str | None, last: bool, why_not: str | None, form: str, overlay: Path | None) -> None:
    """What is known about TERM: a task, an architecture, a device, a rule, a source or a stage."""
    if (term is not None) + (last or why_not is not None) != 1:
        raise click.UsageError("it explains a TERM, or the last answer: --last, or --why-not NAME")
    if term is None:
        click.echo(_explained(why_not, form))
        return
    from advisor.answer import explain as render
    from rules.knowledge import load

    click.echo(render(load(overlay), term, form, stages=_stage_cards()))


def _explained(why_not: str | None, form: str) -> str:
    """The last answer's rule chain, or why a candidate is not its pick."""
    from advisor.answer import why_not as reasons
    from advisor.last import chain, recall

    answer, title = recall()
    return chain(answer, title, form) if why_not is None else reasons(answer, why_not, form)


def _stage_cards() -> dict[str, str]:
    """What each stage module says of itself, read without importing it."""
    import ast

    folder = Path(__file__).parent / "compress" / "stages"
    return {path.stem: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "" for path in sorted(folder.glob("[a-z]*.py"))}


@advisor.command()
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--format", "form", type=click.Choice(["table", "json", "md"]), default="table", show_default=True)
@click.option("--schemas", metavar="DIR", type=click.Path(path_type=Path), help="Write the JSON Schema of every file kind there, and stop.")
@with_knowledge
@click.pass_context
def lint(ctx: click.Context, folder: Path | None, form: str, schemas: Path | None, overlay: Path | None) -> None:
    """Check the knowledge, or your own FOLDER of it over ours: exit 0 when clean, 1 with findings, 2 when malformed."""
    from advisor.findings import findings as render
    from rules.finding import exit_code
    from rules.knowledge import load, over
    from rules.lint import lint as check

    if schemas:
        _write_schemas(schemas)
        return
    theirs = folder or overlay
    found = check(over(theirs) if theirs else load())
    click.echo(render(found, form))
    ctx.exit(exit_code(found))


def _write_schemas(folder: Path) -> None:
    from compress.files import write_json
    from rules.schema import schemas

    for name, schema in schemas().items():
        write_json(folder / f"{name}.schema.json", schema)
        click.echo(folder / f"{name}.schema.json")


def with_training(command: Any) -> Any:
    """Where modules train, for a verb that takes it as `train_on`."""
    said = "Where modules train: auto is CUDA where torch sees it. The files are made and measured on onnxruntime all the same."
    return click.option("--train-on", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help=said)(command)


# -- the whole path --------------------------------------------------------------------------------------------------


@advisor.command()
@click.option("--task", required=True, help="A built-in task (ocr) or a Python object, package.module:TASK.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder with the data; without it the task's built-in set.")
@click.option("--plan", "plan_file", type=click.Path(path_type=Path), help="A plan file; without it the recommended plan.")
@click.option("--device", default=None, help="The target device; the plan's when there is one.")
@click.option("--teacher", type=click.Path(path_type=Path), help="Your own trained teacher: FOLDER/module.safetensors of an earlier run.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="The run's folder.  [default: runs/TASK]")
@click.option("--threads", type=click.IntRange(1, 256), default=None, help="Training threads.  [default: the cores there are]")
@with_training
@click.option("--dry-run", is_flag=True, help="Print the plan with estimated minutes, memory and disk, and stop.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@with_knowledge
def run(task: str, data: Path | None, plan_file: Path | None, out: Path | None, quiet: bool, dry_run: bool, **options: Any) -> None:
    """Train, distil, prune, export, quantize, repair, measure: from a task to a verified bundle. Continues where it stopped."""
    from compress.progress import choose

    progress = choose(quiet=quiet)
    job = _job(task, data, plan_file, **options)
    if dry_run:
        from compress.forecast import forecast

        click.echo(forecast(job))
        return
    folder = out or Path("runs") / _slug(task)
    _run(job, folder, progress)


def _job(
    task: str,
    data: Path | None,
    plan_file: Path | None,
    *,
    device: str | None,
    teacher: Path | None,
    threads: int | None,
    train_on: Any,
    overlay: Path | None,
) -> Any:
    """The job of `advisor run`: the plan (given or recommended), the task's data, the modules' specs, the target."""
    from dataclasses import replace

    from advisor.answer import as_json
    from advisor.instantiate import spec_settings
    from advisor.recommend import device as device_named
    from advisor.recommend import plan_toml
    from advisor.recommend import recommend as judge
    from compress.pipeline import Job
    from compress.plan import parse, read
    from compress.ranks import launched
    from compress.target import target_for
    from compress.torch_device import training_device
    from compress.warm_start import check
    from compress.weights import ModelSpec, load
    from rules.facts import Request
    from rules.knowledge import load as knowledge

    known = knowledge(overlay)
    subject = _task(task)
    plan = read(plan_file) if plan_file else None
    said = {} if plan else _facts(subject, task, data)
    request = Request(subject.name, device or (plan.device if plan else "this-machine"), **said)
    answer = judge(request, known) if subject.name in known.tasks else None
    if plan is None:
        if answer is None:
            raise Problem(f"nothing is recommended for task {subject.name!r}", remedy="give a --plan that names an architecture")
        import tomllib

        plan = parse(tomllib.loads(plan_toml(answer)), "the recommended plan")
    plan = replace(plan, task=task, device=request.device, settings={**_fitting(subject, plan, known), **plan.settings})
    opened = _opened(subject, task, data, plan)
    given = getattr(opened, "given", None) or {"classes": getattr(opened, "classes", len(opened.labels))}

    def spec(variant: str) -> Any:
        builds, settings = spec_settings(known, plan.architecture, variant, **given)
        if plan.weights:
            check(plan.architecture, builds, plan.weights)
        return ModelSpec(builds, settings)

    return Job(
        plan=plan,
        task=subject,
        data=opened,
        student=spec(plan.variant),
        teacher=spec(plan.teacher) if plan.teacher else None,
        trained_teacher=load(teacher.parent, teacher.stem)[0] if teacher else None,
        target=target_for(device_named(known, request.device)),
        recommendation=as_json(answer) if answer else None,
        threads=threads or os.cpu_count() or 1,
        train_on=training_device(train_on, local_rank=launched().local),
    )


def _run(job: Any, folder: Path, progress: Any) -> None:
    """Run a job in its folder, beside the other processes where a launcher started several, and print the bundle's path."""
    from compress.pipeline import Run
    from compress.profile import Measured
    from compress.ranks import joined, launched

    if launched().size > 1:  # a launcher ends the others by this signal, and a process that waits for them in torch would not notice ours
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with joined(job.train_on) as ranks:
        if ranks.leads:
            click.echo(_lead(job, folder, progress, ranks))
        else:
            Run(job, folder, latencies=Measured(), ranks=ranks).through()


def _lead(job: Any, folder: Path, progress: Any, ranks: Any) -> Path:
    """Run a job in its folder and publish the bundle. Returns the bundle's path."""
    from compress.beside import made
    from compress.bundle import write
    from compress.files import owned
    from compress.pipeline import Run
    from compress.profile import Measured
    from compress.record import finish, headline
    from compress.stepwise import recorded

    with owned(folder):
        work = Run(job, folder, latencies=Measured(), progress=progress, ranks=ranks)
        try:
            work.through()
            record = finish(work)
        except KeyboardInterrupt:
            progress.say(f"stopped; the same command continues in {folder}")
            raise
        graph = folder / record["final"]["file"]
        parts = [*recorded(work, record["stepwise"]), *made(job.task, job.data, graph, folder / "beside")]
        bundle = write(folder / "bundle", record=record, graph=graph, data=job.data, task=job.task, parts=parts)
        for line in headline(record):
            progress.say(line)
        return bundle


@advisor.command()
@click.argument("model")
@click.option("--inputs", type=click.Path(path_type=Path), help="Folder of unlabelled inputs (.npy, .npz), for MODEL.onnx.")
@click.option("--weights", type=click.Path(path_type=Path), help="Trained weights (.safetensors) of package.module:function.")
@click.option("--task", help="The task that scores it: a built-in one or package.module:TASK.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder with the task's data.")
@click.option("--plan", "plan_file", type=click.Path(path_type=Path), help="A plan file; without it: all that applies.")
@click.option("--device", default=None, help="The target device.  [default: the plan's, else this-machine]")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/compress"), show_default=True)
@click.option("--threads", type=click.IntRange(1, 256), default=None, help="Training threads.  [default: the cores there are]")
@with_training
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def compress(model: str, out: Path, quiet: bool, **options: Any) -> None:
    """Compress MODEL: a file.onnx with unlabelled inputs, or package.module:function with its weights and a task."""
    from compress.progress import choose

    job = _file_job(model, **options) if model.endswith(".onnx") else _module_job(model, **options)
    _run(job, out, choose(quiet=quiet))


def _file_job(
    model: str,
    *,
    inputs: Path | None,
    task: str | None,
    data: Path | None,
    plan_file: Path | None,
    device: str | None,
    threads: int | None,
    weights: Path | None,
    train_on: Any = "cpu",  # no module is trained
) -> Any:
    """The job of `advisor compress MODEL.onnx`: graph stages alone, scored by the task or against the graph itself."""
    from compress.pipeline import Job
    from compress.plan import default
    from compress.runtime import check_graph
    from compress.unlabelled import TASK, default_plan, open_inputs

    graph = Path(model)
    check_graph(graph, trusted=False)
    if task:
        subject: Any = _task(task)
        plan = _planned(plan_file, default(subject.name, graph_only=True), task, device)
        opened: Any = _opened(subject, task, data, plan)
    elif inputs is None:
        raise Problem(f"{model} needs inputs to calibrate on", remedy="--inputs FOLDER with .npy or .npz files, or --task with --data")
    else:
        subject, plan, opened = TASK, _planned(plan_file, default_plan(), TASK.name, device), open_inputs(graph, inputs)
    return Job(plan=plan, task=subject, data=opened, graph=graph, target=_target(plan.device), threads=threads or os.cpu_count() or 1)


def _module_job(
    model: str,
    *,
    weights: Path | None,
    task: str | None,
    data: Path | None,
    plan_file: Path | None,
    device: str | None,
    threads: int | None,
    train_on: Any,
    inputs: Path | None,
) -> Any:
    """The job of `advisor compress package.module:function`: a trained module, scored by its task."""
    from compress.pipeline import Job
    from compress.plan import default
    from compress.ranks import launched
    from compress.refit import refit
    from compress.torch_device import training_device
    from compress.weights import ModelSpec, read_state

    if task is None or weights is None:
        raise Problem(f"{model} needs --weights and --task", remedy="the task brings the data, the losses and the metric")
    _from_here()
    subject = _task(task)
    spec = ModelSpec(model, {})
    module = refit(spec.build(), read_state(weights)).eval()
    plan = _planned(plan_file, default(subject.name, graph_only=False), task, device)
    opened = _opened(subject, task, data, plan)
    return Job(
        plan=plan,
        task=subject,
        data=opened,
        student=spec,
        trained=module,
        target=_target(plan.device),
        threads=threads or os.cpu_count() or 1,
        train_on=training_device(train_on, local_rank=launched().local),
    )


def _planned(plan_file: Path | None, otherwise: Any, task: str, device: str | None) -> Any:
    """The plan given, or the one of `advisor compress` itself, for this task and device."""
    from dataclasses import replace

    from compress.plan import read

    plan = read(plan_file) if plan_file else otherwise
    return replace(plan, task=task, device=device or plan.device)


def _target(device: str) -> Any:
    from advisor.recommend import device as device_named
    from compress.target import target_for
    from rules.knowledge import load as knowledge

    return target_for(device_named(knowledge(), device))


def _opened(subject: Task, name: str, data: Path | None, plan: Any) -> Data:
    """The task's data; that of somebody's own task is looked at before anything is run on it."""
    if ":" not in name:
        return subject.open(data, seed=plan.seed, settings=dict(plan.settings))
    from compress.contract import open_data

    return open_data(subject, name, data, seed=plan.seed, settings=dict(plan.settings))


def _fitting(subject: Task, plan: Any, known: Any) -> dict[str, Any]:
    """How published weights want their inputs, where the plan starts from some, and what the architecture asks of the data.

    Raises Problem (exit 2) where the plan asks for what its architecture does not have.
    """
    from compress.warm_start import earlier

    card = known.cards.get(plan.architecture)
    own: Mapping[str, Any] = next((size.given for size in card.variants if size.name == plan.variant), {}) if card else {}
    asked: tuple[str, ...] = getattr(subject, "asked", ())
    for key in asked:
        if plan.settings.get(key) and card and not any(key in size.given for size in card.variants):
            raise Problem(f"{plan.architecture} has no {key}", remedy=f"leave {key} out of the plan's settings")
    published = dict(getattr(subject, "published", {})) if plan.weights and not earlier(plan.weights) else {}
    return published | {key: own[key] for key in asked if key in own}


def _facts(subject: Task, name: str, data: Path | None) -> dict[str, Any]:
    """What the data at hand says of a request, where a built-in task tells: how small its pictures are, how many examples there are."""
    return dict(getattr(subject.open(data), "facts", {})) if ":" not in name else {}


def _task(name: str) -> Task:
    """A built-in task by name, or the user's own Python object by `package.module:TASK`."""
    from importlib import import_module

    from advisor.tasks import names
    from advisor.tasks import task as built_in

    if ":" not in name:
        if name not in names():
            from rules.problems import unknown

            raise unknown("task", name, names(), remedy="advisor matrix lists all; your own is --task package.module:TASK")
        return built_in(name)  # type: ignore[no-any-return]
    from compress.contract import check_task, theirs

    module, _, attribute = name.partition(":")
    _from_here()

    def load() -> Any:
        try:
            return getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise Problem(
                f"cannot load task {name!r}: {error}", remedy="it is looked up as Python imports it, from this folder too"
            ) from error

    return check_task(theirs(load, f"task {name!r}: its module"), name)


def _from_here() -> None:
    """Let Python import from the folder the command is called in, as `python -m` does."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)


# -- files that exist --------------------------------------------------------------------------------------------------


@advisor.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--reference", type=click.Path(path_type=Path), help="A second .onnx, timed interleaved with the first.")
@click.option("--shape", "shapes", multiple=True, metavar="INPUT=1x1x32x128", help="Shape of an input with dynamic axes.")
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True)
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the profile as JSON to this file.")
def profile(model: Path, reference: Path | None, shapes: tuple[str, ...], threads: int, form: str, output: Path | None) -> None:
    """Measure MODEL (an .onnx or a bundle) here: cold and warm load, latency, operators, peak memory."""
    import json

    from compress.files import write_json
    from compress.probes import model_file, probes_for
    from compress.profile import profile as measure
    from compress.profile import render
    from compress.runtime import check_graph

    graph = model_file(model)
    for file in filter(None, (graph, reference)):
        check_graph(file, trusted=False)
    found = measure(graph, probes_for(model, shapes, reference=reference), reference=reference, threads=threads)
    if output:
        write_json(output, found)
    click.echo(json.dumps(found, indent=2) if form == "json" else render(found))


@advisor.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--baseline", type=click.Path(path_type=Path), help="A bundle or model.onnx to compare with.")
@click.option("--data", type=click.Path(path_type=Path), help="Re-score the metric on this folder.")
@click.option("--measured", type=click.Path(path_type=Path), help="A profile made on the target (reader.py --profile).")
@click.option("--config", type=click.Path(path_type=Path), help="A gate.toml; flags override it.")
@click.option("--max-drop", "drops", multiple=True, metavar="METRIC=X", help="Largest loss of a metric, a fraction: cer=0.005.")
@click.option("--max-latency-ratio", type=click.FloatRange(min=0, min_open=True), help="Largest latency against the baseline.")
@click.option("--max-size-mb", type=click.FloatRange(min=0, min_open=True), help="Largest model.onnx.")
@click.option("--format", "form", type=click.Choice(["table", "json", "junit", "md"]), default="table", show_default=True)
@click.pass_context
def gate(ctx: click.Context, /, bundle: Path, form: str, **options: Any) -> None:
    """Judge BUNDLE against limits: exit 0 when all hold, 1 when one fails, 4 when too noisy or not judged."""
    from compress.gate import from_options, render

    result = from_options(bundle, open_task=_task, **options)
    click.echo(render(result, form))
    ctx.exit(result.exit_code)


@advisor.group()
def bundle() -> None:
    """Look at a bundle somebody handed over."""


@bundle.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.pass_context
def verify(ctx: click.Context, folder: Path) -> None:
    """Check every byte, the schema, the golden vectors and the readings. Exit 1 with the findings, 0 when sound."""
    from compress.bundle import verify as check

    findings = check(folder)
    for finding in findings:
        click.echo(str(finding))
    click.echo(f"{folder}: {len(findings)} finding{'s' if len(findings) != 1 else ''}" if findings else f"{folder}: sound")
    ctx.exit(Exit.FAILED if findings else Exit.DONE)


@advisor.command()
def doctor() -> None:
    """What is installed, what this machine can do, and what is missing for which verb."""
    from advisor.doctor import report

    click.echo(report())


# -- how it ends -------------------------------------------------------------------------------------------------------


def main() -> NoReturn:
    """Run the command and leave with the documented exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        code = advisor.main(standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except Problem as problem:
        _leave(f"advisor: {problem}", problem.code)
    except click.ClickException as error:
        error.show()
        sys.exit(Exit.USAGE)
    except (KeyboardInterrupt, click.Abort):
        _leave("advisor: interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except MemoryError:
        _leave("advisor: out of memory (a smaller batch or a smaller model needs less)", Exit.ENVIRONMENT)
    except OSError as error:
        _disk_or_bug(error)
    except Exception as error:
        _bug(error)


def _leave(line: str, code: int) -> NoReturn:
    click.echo(line, err=True)
    sys.exit(code)


def _terminated(*_: object) -> NoReturn:
    click.echo("advisor: terminated; the same command continues", err=True)
    os._exit(143)


def _disk_or_bug(error: OSError) -> NoReturn:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        _leave(
            f"advisor: no space left on the device: {error.filename or ''} (free some space and run again: it continues)", Exit.ENVIRONMENT
        )
    _bug(error)


def _bug(error: BaseException) -> NoReturn:
    """Our bug: the traceback on stderr, a saved report, its path, exit 70."""
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    with tempfile.NamedTemporaryFile("w", prefix="advisor-bug-", suffix=".txt", delete=False, encoding="utf-8") as file:
        file.write(f"advisor {VERSION}\n{' '.join(sys.argv)}\n\n{text}")
    click.echo(f"{text}advisor: this is our bug; the report is in {file.name}", err=True)
    sys.exit(Exit.BUG)


if __name__ == "__main__":
    main()
