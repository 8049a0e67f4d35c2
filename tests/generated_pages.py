"""The pages that are made from the code and the knowledge: docs/stages.md, docs/matrix.md and docs/article.md. `python tests/generated_pages.py` writes them.

`tests/test_docs.py` compares what is committed with what this makes.
"""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # run as a script
    sys.path.insert(0, str(ROOT))

from compress.plan import MODULE_STAGES, ORDER, settings_class  # noqa: E402  # after the path is known
from rules.facts import Source  # noqa: E402

AGAIN = "python tests/generated_pages.py"
NOTE = f"<!-- Made from the code by `{AGAIN}`. Edit the code. -->"


TRAINING = {
    "epochs": "passes over the training split",
    "steps": "optimizer steps; where it is not 0 it overrides `epochs`",
    "batch_size": "examples a step",
    "augment": "let the task vary its training examples",
    "precision": "of the arithmetic while training",
}
QUANTIZING = {"method": "as of `quantize`", "samples": "as of `quantize`", "percentile": "as of `quantize`", "examples": "as of `quantize`"}
MEANS = {  # settings whose field has no comment of its own
    "train": TRAINING,
    "distil": TRAINING,
    "prune": {
        "align": "channel counts become multiples of this; 0: the target's",
        "min_channels": "no layer gets narrower",
        "importance": "how channels are ranked: by the change of the loss, or by the size of their weights",
        "max_steps": "cuts at most",
        "looks": "candidates timed at each cut after the first, which times all",
        "recovery_epochs": "training after the cuts; 0: none",
        "batch_size": "of the recovery",
        "lr": "of the recovery",
        "temperature": "of the recovery's distillation",
    },
    "equalize": QUANTIZING,
    "adaround": {"penalty": "how hard every choice is pushed towards up or down"},
    "qat": {
        "steps": "optimizer steps",
        "batch_size": "examples a step",
        "warmup": "share of the steps before the peak",
        "temperature": "softens both answers before they are compared",
        "augment": "let the task vary its training examples",
        "val_limit": "examples of the validation split in each evaluation",
    },
}


def stages() -> str:
    """docs/stages.md: every stage's card and settings, in the order of a plan."""
    lines = [
        "# The stages",
        "",
        "What each stage does, when it helps and when it does not, and every setting it has.",
        "",
        NOTE,
        "",
        f"The order is {' → '.join(f'`{name}`' for name in ORDER)};",
        "a plan may leave any of them out. Beside its own settings a stage takes `because` (printed when it starts) and `max_drop` (what it alone",
        "may cost of the metric, a fraction). What decides whether a result is kept: [advisor run](run.md#kept-or-rolled-back).",
    ]
    for name in ORDER:
        lines += ["", *stage(name)]
    return "\n".join(lines) + "\n"


def stage(name: str) -> list[str]:
    kind = settings_class(name)
    where = "compress/plan.py" if name == "export" else f"compress/stages/{name}.py"
    turns = "the door from module to file" if name == "export" else "a module stage" if name in MODULE_STAGES else "a graph stage"
    said = inspect.getdoc(kind) if name == "export" else inspect.getdoc(import_module(f"compress.stages.{name}"))
    comments = {**MEANS.get(name, {}), **_comments(name), **_comments_of(kind)}
    lines = [f"## {name}", "", *card(said or ""), "", f"`{where}`, {turns}.", "", "| setting | default | what it is |", "|---|---|---|"]
    for item in fields(kind):
        default = item.default if item.default is not MISSING else item.default_factory()  # type: ignore[misc]
        lines.append(f"| `{item.name}` | `{_plain(default)}` | {_cell(_choices(item.type), comments.get(item.name, ''))} |")
    return lines


def card(text: str) -> list[str]:
    """A docstring as paragraphs: its first sentence, what it says, and from each of its "Helps", "Does not help", "Source" on a new line."""
    flat = [" ".join(part.split()) for part in text.split("\n\n")]
    found: list[str] = []
    for part in flat:
        pieces = re.split(r"(?<=[.;]) (?=Helps\b|Does not help\b|Costs:|Sources?:)|(?<=:) (?=\n)", part)
        found += ["", *(f"{piece}  " for piece in pieces[:-1]), pieces[-1]]
    return found[1:]


def _comments(name: str) -> dict[str, str]:
    """What the shared training loop says of the settings that a stage passes on to it."""
    from compress.training import Recipe

    return _comments_of(Recipe) if name in ("train", "distil") else {}


def _comments_of(kind: type) -> dict[str, str]:
    """The comment behind each field, from the source."""
    pattern = re.compile(r"^    (\w+): [^#\n]*#\s*(.+)$", re.MULTILINE)
    return dict(pattern.findall(inspect.getsource(kind)))


def _choices(kind: object) -> str:
    found = re.fullmatch(r"Literal\[(.*)\]", str(kind))
    return " or ".join(f"`{word}`" for word in found[1].split(", ")) if found else ""


def _cell(*parts: str) -> str:
    return "; ".join(part.replace("|", "\\|") for part in parts if part)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return f"[{', '.join(map(repr, value))}]"
    return f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def matrix() -> str:
    """docs/matrix.md: what `advisor matrix --format md` prints."""
    from advisor.answer import matrix as render
    from rules.knowledge import load

    lines = [
        "# The task-fit matrix",
        "",
        "Every task, its candidates with their fit and source, and what the source article said: the output of `advisor matrix --format md`.",
        "",
        NOTE,
        "",
        render(load(), "md").rstrip(),
    ]
    return "\n".join(lines) + "\n"


VERDICTS = {
    "right": "it holds",
    "imprecise": "partly, or only under conditions",
    "wrong": "it does not hold",
    "unsourced": "a figure without data, benchmark or citation: no evidence",
    "opinion": "a forecast, not a fact",
}


def article() -> str:
    """docs/article.md: every claim of the source article with its verdict, and what is done about the challenges it names."""
    from advisor.sections import about_challenge, runnable, with_sources
    from rules.knowledge import load

    known = load()
    claims = list(known.claims.values())
    lines = [
        "# The source article, claim by claim",
        "",
        "What the survey that this project started from claims, in our words and in its order, with today's verdict and the fact.",
        "",
        NOTE,
        "",
        "`advisor explain CLAIM` tells one of them with its sources; so does any word of the article (`advisor explain attention`).",
        "Verdicts, and how often:",
        "",
        "| verdict | means | claims |",
        "|---|---|---|",
        *(f"| {verdict} | {means} | {sum(claim.verdict == verdict for claim in claims)} |" for verdict, means in VERDICTS.items()),
    ]
    for part in dict.fromkeys(claim.part for claim in claims):
        lines += ["", f"## {part}"]
        for claim in (claim for claim in claims if claim.part == part):
            lines += [
                "",
                f"### {claim.id}",
                "",
                f"The article: {claim.says}.  ",
                f"**{claim.verdict.capitalize()}.** {with_sources(claim)}",
            ]
            lines += ["", *(f"- see: `{runnable(see)}`" for see in claim.see)] if claim.see else []
    lines += ["", "## The challenges it names, and what is done about them"]
    for row in known.challenges.values():
        lines += ["", f"### {row.id}", "", f"Against {row.title}, in this order (claim [{row.claim}](#{row.claim})):", ""]
        lines += [f"- {label}: {text}" for label, text in about_challenge(row)]
    cited = dict.fromkeys([name for claim in claims for name in claim.sources])
    cited |= dict.fromkeys(remedy.source for row in known.challenges.values() for remedy in row.remedies)
    lines += ["", "## Sources", "", *(_source(known.sources[name]) for name in sorted(cited))]
    return "\n".join(lines) + "\n"


def _source(source: Source) -> str:
    where = f"<{source.url}>" if "://" in source.url else f"`{source.url}`"
    return f"- [{source.id}] {source.title} ({source.year}), {where}" + (f" {source.note}" if source.note else "")


PAGES = {"docs/stages.md": stages, "docs/matrix.md": matrix, "docs/article.md": article}

if __name__ == "__main__":
    for place, make in PAGES.items():
        (ROOT / place).write_text(make(), encoding="utf-8")
        print(place)
