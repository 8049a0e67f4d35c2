"""A bundle: everything an edge team needs to run, port, check and trust one model, in one folder whose every byte is accounted for.

`write` builds it beside its place and moves it there whole. `verify` trusts nothing: not the names, not the sizes, not the JSON, and it
runs the model only after every byte matched its checksum, in a child process of bounded memory and time. What it never does is run code
from the bundle. A checksum proves that nothing changed since the bundle was made, not who made it.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress import card, golden, manifest, schema
from compress.context import Data, Predict, Task
from compress.files import explain, sha256, write_bytes, write_text
from rules.examples import Sample
from rules.problems import Problem, bad_input

if TYPE_CHECKING:
    from compress.beside import Part

SUMS, MANIFEST, MODEL = "SHA256SUMS", "manifest.json", "model.onnx"
MOST_FILES = 10_000
READER = Path(__file__).parent / "reader" / "reader.py"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a bundle that is not as it should be."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


# -- writing ---------------------------------------------------------------------------------------------------------------------


def write(
    folder: Path,
    *,
    record: Mapping[str, Any],
    graph: Path,
    data: Data,
    task: Task,
    goldens: Sequence[Sample] | None = None,
    predict: Predict | None = None,
    parts: Sequence[Part] = (),
) -> Path:
    """Publish a bundle at `folder` (replacing an older bundle there). Golden samples and the predictor have sensible defaults; `parts` are
    the graphs beside the one that ships.

    Raises Problem: exit 2 where `folder` holds something else than a bundle, exit 5 when the disk is full.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise Problem(f"{folder} exists and is no bundle", remedy="choose another folder")
    for step in (*data.preprocess, *data.postprocess):
        if not isinstance(step.get("op"), str):
            raise Problem(f'task {record["task"]!r} declares a step without an "op": {dict(step)}', remedy='{"op": "resize", "height": 32}')
    draft = folder.with_name(f".{folder.name}.making")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        _fill(draft, record, graph=graph, data=data, goldens=goldens, predict=predict, parts=parts)
        _move(draft, folder)
    except OSError as error:
        raise explain(error, folder) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _fill(
    draft: Path,
    record: Mapping[str, Any],
    *,
    graph: Path,
    data: Data,
    goldens: Sequence[Sample] | None,
    predict: Predict | None,
    parts: Sequence[Part],
) -> None:
    from compress.report.nodes import with_nodes
    from compress.report.page import write as write_report
    from compress.runtime import predictor

    write_bytes(draft / MODEL, graph.read_bytes())
    for part in parts:
        write_bytes(draft / part.file.name, part.file.read_bytes())
    write_text(draft / "labels.txt", labels_text(data.labels))
    golden.write(
        draft / "golden",
        goldens if goldens is not None else golden.samples(data),
        graph=graph,
        data=data,
        predict=predict or predictor(graph),
        parts=parts,
    )
    write_text(draft / "README.md", card.render(record, data))
    write_report(with_nodes(record, graph, data.probes()), draft / "report.html")
    for path in (READER, *golden.step_files(data, cut=any(part.role == "step" for part in parts))):
        write_bytes(draft / path.name, path.read_bytes())
    write_text(draft / "LICENSE", card.licence_note(record))
    value = manifest.build(record, data, graph=graph, files=list(_listing(draft)), parts=parts)
    write_text(
        draft / MANIFEST, json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    )  # in its own order: the first probe is the headline
    write_text(draft / SUMS, sums(draft))


def labels_text(labels: Sequence[str]) -> str:
    """One label a line, for eyes and for other languages; control characters are written as JSON escapes."""
    return "".join((json.dumps(label)[1:-1] if not label.isprintable() else label) + "\n" for label in labels)


def _listing(folder: Path) -> Iterator[dict[str, Any]]:
    for name, path in sorted(_walk(folder).items()):
        if name not in (SUMS, MANIFEST):
            role = manifest.role(name)
            yield {"path": name, "size_bytes": path.stat().st_size, "sha256": sha256(path), "role": role}


def sums(folder: Path) -> str:
    """The text of SHA256SUMS: `digest, two spaces, path` a line, sorted by path, as `sha256sum -c` reads it."""
    return "".join(f"{sha256(path)}  {name}\n" for name, path in sorted(_walk(folder).items()) if name != SUMS)


def _move(draft: Path, folder: Path) -> None:
    """Put the finished draft in its place. An older bundle is moved aside first and removed last."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    draft.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


# -- verifying -------------------------------------------------------------------------------------------------------------------


def verify(folder: Path) -> list[Finding]:
    """Everything that is wrong with a bundle; empty when it is sound. Raises Problem (exit 3) only when there is no folder at all."""
    if not folder.is_dir():
        raise bad_input(f"no bundle folder {folder}")
    found = integrity(folder)
    if found:
        return [*found, Finding(MODEL, "was not run, because the bundle is not as it was made")]
    return _model_findings(folder) or [Finding("golden", fault.removeprefix("golden/")) for fault in golden.replay(folder)]


def integrity(folder: Path) -> list[Finding]:
    """What can be said without running the model: bytes, names, kinds of files, the manifest's form and what it says of the files."""
    try:
        files = _walk(folder)
    except (OSError, ValueError) as error:
        return [Finding(str(folder), str(error))]
    found = [*_kinds(files), *_summed(files)]
    if found:
        return found
    try:
        value = schema.parse((folder / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        return [Finding(MANIFEST, f"cannot be read: {error}")]
    rules = json.loads(manifest.SCHEMA.read_text(encoding="utf-8"))
    found = [Finding(MANIFEST, fault) for fault in schema.faults(value, rules)]
    return found or [*_listed(value, files), *_agrees(folder, value)]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle. Raises Problem (exit 3) where there is none or it is not one."""
    try:
        value = schema.parse((folder / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise bad_input(f"{folder} is no bundle: its {MANIFEST} cannot be read: {error}") from error
    faults = schema.faults(value, json.loads(manifest.SCHEMA.read_text(encoding="utf-8")))
    if faults:
        raise bad_input(f"{folder}/{MANIFEST} is not as its schema says: {faults[0]}", remedy=f"advisor bundle verify {folder} lists all")
    return dict(value)


def _walk(folder: Path) -> dict[str, Path]:
    """Every entry that is no plain folder, by its path with slashes; links are entries and are not followed."""
    found: dict[str, Path] = {}
    waiting = [folder]
    while waiting:
        for entry in os.scandir(waiting.pop()):
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
                continue
            found[Path(entry.path).relative_to(folder).as_posix()] = Path(entry.path)
            if len(found) > MOST_FILES:
                raise ValueError(f"it holds more than {MOST_FILES} files")
    return found


def _kinds(files: Mapping[str, Path]) -> Iterator[Finding]:
    for name, path in sorted(files.items()):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            yield Finding(_printable(name), "is a symbolic link")
        elif not stat.S_ISREG(mode):
            yield Finding(_printable(name), "is no regular file")
        elif not name.isprintable():
            yield Finding(_printable(name), "has control characters in its name")


def _summed(files: Mapping[str, Path]) -> list[Finding]:
    """SHA256SUMS against the files: first what it lists, then byte for byte against what it should be."""
    if SUMS not in files or not stat.S_ISREG(files[SUMS].lstat().st_mode):
        return [Finding(SUMS, "is missing")]
    try:
        text = files[SUMS].read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return [Finding(SUMS, f"cannot be read: {error}")]
    listed = {line[66:]: line[:64] for line in text.splitlines() if line[64:66] == "  "}
    regular = {name: path for name, path in files.items() if name != SUMS and stat.S_ISREG(path.lstat().st_mode)}
    found = [Finding(_printable(name), "is listed and missing") for name in sorted(listed.keys() - regular.keys())]
    found += [Finding(_printable(name), f"is not listed in {SUMS}") for name in sorted(regular.keys() - listed.keys())]
    try:
        digests = {name: sha256(regular[name]) for name in sorted(regular)}
    except OSError as error:
        return [*found, Finding(str(error.filename), f"cannot be read: {error.strerror}")]
    found += [
        Finding(_printable(name), f"does not match its checksum in {SUMS}")
        for name, digest in digests.items()
        if listed.get(name, digest) != digest
    ]
    wanted = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    return found or ([] if text == wanted else [Finding(SUMS, "is not written as it was made: order, spaces or line ends differ")])


def _printable(name: str) -> str:
    return name if name.isprintable() else ascii(name)[1:-1]


def _listed(value: Mapping[str, Any], files: Mapping[str, Path]) -> list[Finding]:
    """The manifest's own list of files against the files."""
    entries = {entry["path"]: entry for entry in value["files"]}
    there = files.keys() - {SUMS, MANIFEST}
    found = [Finding(MANIFEST, f"lists {name}, which is missing") for name in sorted(entries.keys() - there)]
    found += [Finding(MANIFEST, f"does not list {name}") for name in sorted(there - entries.keys())]
    if len(entries) != len(value["files"]):
        found.append(Finding(MANIFEST, "lists a file twice"))
    for name in sorted(entries.keys() & there):
        if entries[name]["size_bytes"] != files[name].stat().st_size or entries[name]["sha256"] != sha256(files[name]):
            found.append(Finding(name, f"is not the file that {MANIFEST} describes"))
    return found


def _agrees(folder: Path, value: Mapping[str, Any]) -> list[Finding]:
    """What is said twice must be said alike: labels, the graphs' files and their roles."""
    found = []
    roles = {entry["path"]: entry["role"] for entry in value["files"]}
    for graph in value["graphs"]:
        if roles.get(graph["file"]) != "graph":
            found.append(Finding(MANIFEST, f"names {graph['file']} as a graph, which is not listed as one"))
    try:
        text = (folder / "labels.txt").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return [*found, Finding("labels.txt", f"cannot be read: {error}")]
    if text != labels_text(value["labels"]):
        found.append(Finding("labels.txt", f"differs from the labels in {MANIFEST}"))
    return found


def _model_findings(folder: Path) -> list[Finding]:
    """Whether each graph opens, in a child process, and takes and gives what the manifest says."""
    from compress.runtime import check_graph

    found = []
    for graph in read_manifest(folder)["graphs"]:
        try:
            signature = check_graph(folder / graph["file"])
        except Problem as problem:
            found.append(Finding(graph["file"], problem.what))
            continue
        for side in ("inputs", "outputs"):
            said = [(port["name"], port["dtype"], len(port["shape"])) for port in graph[side]]
            has = [(port.name, port.dtype, len(port.shape)) for port in getattr(signature, side)]
            if said != has:
                found.append(Finding(graph["file"], f"has {side} {has}, {MANIFEST} says {said}"))
    return found
