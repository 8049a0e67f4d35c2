#!/usr/bin/env python3
"""Reads files with the model in this folder, and measures or checks it on this very machine.

    python reader.py line.png                  what the file says
    python reader.py line.png --beam --json    beam search; with confidence, as JSON
    python reader.py text.txt --write 200      of a model of texts: how the text goes on
    python reader.py --self-test               the golden vectors, replayed here
    python reader.py --profile out.json        latency here, for `advisor gate --measured out.json`

Needs Python 3.8 or newer, onnxruntime, numpy and Pillow, and nothing else. It checks SHA256SUMS before it opens anything.
What it does to a file and to the model's output is declared in manifest.json ("preprocess", "postprocess"); the functions under
PREPROCESS and POSTPROCESS, here and in the steps_*.py beside it, say in code what each declared step means, for whoever writes it
again in another language.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import os
import platform
import sys
import time
import warnings
from pathlib import Path
from typing import Any, Iterator  # noqa: UP035 (Python 3.8)

import numpy as np

HERE = Path(__file__).resolve().parent
SCHEMA_VERSION = 1
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "PPM", "WEBP", "GIF")
MOST_PIXELS = 50_000_000
BEAM = 5
CPU = "CPUExecutionProvider"


class Refused(Exception):
    """Something the user can mend, in one line."""


# -- the bundle ------------------------------------------------------------------------------------------------------


def check_sums(folder: Path) -> list[str]:
    """Faults of the folder against its SHA256SUMS: changed, missing, unlisted or linked files. Empty when all is well."""
    try:
        lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return [f"SHA256SUMS cannot be read: {error}"]
    listed = dict(line.split("  ", 1)[::-1] for line in lines if "  " in line)
    if len(listed) != len(lines):
        return ["SHA256SUMS has a line that is no checksum"]
    found = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_symlink() or not file.is_dir()}
    found.pop("SHA256SUMS", None)
    faults = [f"{name} is missing" for name in sorted(set(listed) - set(found))]
    faults += [f"{name} is not in SHA256SUMS" for name in sorted(set(found) - set(listed)) if "__pycache__" not in name]
    for name in sorted(set(listed) & set(found)):
        if found[name].is_symlink() or not found[name].is_file():
            faults.append(f"{name} is a link or no regular file")
        elif hashlib.sha256(found[name].read_bytes()).hexdigest() != listed[name]:
            faults.append(f"{name} was changed")
    return faults


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, when this reader can serve it."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Refused(f"manifest.json cannot be read: {error}") from None
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if version != SCHEMA_VERSION:
        raise Refused(f"manifest.json has schema_version {version!r}, this reader knows {SCHEMA_VERSION}")
    return dict(manifest)


def open_model(path: Path, threads: int = 1, provider: str = CPU) -> Any:
    """An onnxruntime session on `provider` and no other, its workers asleep between operators."""
    import onnxruntime

    if provider not in onnxruntime.get_available_providers():
        raise Refused(f"onnxruntime has no {provider} here, only {', '.join(onnxruntime.get_available_providers())}")

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise Refused(f"{path.name} cannot be opened by onnxruntime {onnxruntime.__version__}: {reason}") from None
    if session.get_providers()[0] != provider:
        raise Refused(f"onnxruntime fell back from {provider} to {session.get_providers()[0]}")
    return session


def run(session: Any, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Named arrays in, named arrays out."""
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds)))  # noqa: B905 (Python 3.8)


# -- image -> array --------------------------------------------------------------------------------------------------


def load_image(raw: bytes) -> Any:
    """Decode the bytes of an image file; what is no image, or absurdly large, is refused."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(raw), formats=FORMATS)
            image.load()
    except Exception as error:
        raise Refused(f"this is no image that can be read: {error or type(error).__name__}") from None
    return image


def apply(raw: bytes, steps: Any) -> Any:
    """Bytes of a file -> the model's input array (of several inputs: a dictionary of arrays), by the declared steps."""
    parts = apply_in_parts(raw, steps)
    if len(parts) > 1:
        raise Refused(f"this file is too long for one answer: it takes {len(parts)}")
    return parts[0]


def apply_in_parts(raw: bytes, steps: Any) -> list[Any]:
    """The same of a file that may be too long for one answer: its parts in their order, where a declared step cuts such files."""
    values: list[Any] = [raw]
    for step in steps:
        function, cuts = (known(step.get("op"), table) for table in ("PREPROCESS", "CUTS"))
        if function is None:
            raise Refused(f"manifest.json asks for the step {step.get('op')!r}, which this reader does not know")
        made = [_applied(function, value, step) for value in values]
        values = [part for parts in made for part in parts] if cuts else made
    return values


def _applied(function: Any, value: Any, step: dict[str, Any]) -> Any:
    settings = {key: item for key, item in step.items() if key != "op"}
    part = settings.pop("of", None)  # of several inputs, the one the step is about
    try:
        if part is None:
            return function(value, **settings)
        value[part] = function(value[part], **settings)
    except ValueError as error:
        raise Refused(str(error)) from None
    except TypeError as error:
        raise Refused(f"the step {step['op']!r} does not fit: {error}") from None
    return value


def decode(raw: bytes, mode: str = "L", background: int = 255) -> Any:
    """Image file -> picture in `mode` ("L" grey, "RGB"). Transparent parts show `background`."""
    from PIL import Image

    image = load_image(raw)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        below = Image.new("RGBA", image.size, (background, background, background, 255))
        image = Image.alpha_composite(below, image)
    return image.convert(mode)


def resize(
    image: Any, height: int, width: int | None = None, resample: str = "bilinear", min_width: int = 1, max_width: int | None = None
) -> Any:
    """Picture -> picture of `height`; without `width` the ratio is kept, rounded to the nearest, within the given widths."""
    if width is None:
        width = max(min_width, round(image.width * height / image.height))
        width = min(width, max_width) if max_width else width
    kinds = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4}
    return image if image.size == (width, height) else image.resize((width, height), kinds[resample])


def to_array(image: Any, layout: str = "chw", dtype: str = "float32") -> np.ndarray:
    """Picture -> array (1, c, h, w) of its bytes, 0 to 255."""
    array = np.asarray(image, dtype=dtype)
    array = array[:, :, None] if array.ndim == 2 else array
    return np.ascontiguousarray(array.transpose(2, 0, 1) if layout == "chw" else array)[None]


def pad(array: np.ndarray, multiple: int = 1, value: float = 0.0, minimum: int = 1) -> np.ndarray:
    """Array -> array whose last axis is a multiple of `multiple` and at least `minimum`, filled with `value` on the right."""
    wanted = max(minimum, array.shape[-1])
    wanted = -(-wanted // multiple) * multiple
    filled = np.full((*array.shape[:-1], wanted), value, dtype=array.dtype)
    filled[..., : array.shape[-1]] = array
    return filled


def scale(array: np.ndarray, mean: Any = 0.0, std: Any = 1.0, by: float = 1.0) -> np.ndarray:
    """Array -> (array * by - mean) / std, in float32. `mean` and `std` are numbers, or lists with one for each channel of (1, c, h, w)."""
    middle, spread = (np.asarray(value, dtype=np.float32).reshape(-1, 1, 1) if isinstance(value, list) else value for value in (mean, std))
    return ((array.astype(np.float32) * np.float32(by) - np.float32(middle)) / np.float32(spread)).astype(np.float32)


CUTS: dict[str, Any] = {}  # steps that make several of one
PREPROCESS: dict[str, Any] = {"decode": decode, "resize": resize, "array": to_array, "pad": pad, "scale": scale}


def known(op: Any, table: str) -> Any:
    """The function behind a declared step, here or in a steps_*.py of this reader's own folder; None where there is none."""
    here = globals().get(table, {}).get(op)
    return here or next((found for steps in extensions().values() if (found := getattr(steps, table, {}).get(op))), None)


def extensions() -> dict[str, Any]:
    """The step files beside this reader, by name: of a bundle, the ones its manifest needs."""
    import importlib.util

    for path in sorted(HERE.glob("steps_*.py")):
        if path.stem not in EXTENSIONS:
            spec = importlib.util.spec_from_file_location(path.stem, path)
            if spec is None or spec.loader is None:
                continue
            EXTENSIONS[path.stem] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(EXTENSIONS[path.stem])
    return EXTENSIONS


EXTENSIONS: dict[str, Any] = {}

# -- array -> reading ------------------------------------------------------------------------------------------------


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, in float64."""
    logits = logits.astype(np.float64)
    logits = logits - logits.max(-1, keepdims=True)
    return np.asarray(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))


def greedy(log_probs: np.ndarray, blank: int) -> list[int]:
    """(t, classes) -> class ids: the best of each step, repeats merged, blanks dropped."""
    best = log_probs.argmax(-1)
    keep = (best != blank) & np.concatenate([[True], best[1:] != best[:-1]])
    return [int(index) for index in best[keep]]


def beam_search(log_probs: np.ndarray, blank: int, width: int = BEAM) -> list[int]:
    """(t, classes) -> class ids of the most probable labelling found by prefix beam search (Hannun et al. 2014, arXiv:1408.2873)."""
    beams: dict[tuple[int, ...], tuple[float, float]] = {
        (): (0.0, -math.inf)
    }  # prefix -> log probability of its paths that end in a blank, and of those that do not
    for step in log_probs:
        symbols = set(np.argsort(-step, kind="stable")[: width + 2].tolist()) | {prefix[-1] for prefix in beams if prefix}
        grown: dict[tuple[int, ...], tuple[float, float]] = {}
        for prefix, (blanked, spelled) in beams.items():  # a prefix stays: a blank, or its last symbol again
            again = spelled + float(step[prefix[-1]]) if prefix else -math.inf
            grown[prefix] = (_plus(blanked, spelled) + float(step[blank]), again)
        for prefix, (blanked, spelled) in beams.items():  # or grows; a symbol doubles only across a blank
            for symbol in sorted(symbols - {blank}):
                before = blanked if prefix[-1:] == (symbol,) else _plus(blanked, spelled)
                longer = (*prefix, symbol)
                old = grown.get(longer, (-math.inf, -math.inf))
                grown[longer] = (old[0], _plus(old[1], before + float(step[symbol])))
        ranked = sorted(grown.items(), key=lambda item: -_plus(*item[1]))
        beams = dict([item for item in ranked[:width] if _plus(*item[1]) > -math.inf] or ranked[:1])
    return list(next(iter(beams)))


def _plus(one: float, other: float) -> float:
    return float(np.logaddexp(one, other))


def ctc(output: np.ndarray, labels: list[str], blank: int = 0, beam: int = 0) -> tuple[str, float]:
    """(1, t, classes) -> (reading, confidence). Class ids skip the blank: the id after it is the first label.

    Confidence is the geometric mean of the best class's probability over the steps: comparable, not calibrated.
    """
    log_probs = log_softmax(output[0])
    ids = beam_search(log_probs, blank, beam) if beam else greedy(log_probs, blank)
    text = "".join(labels[index - 1 if index > blank else index] for index in ids)
    return text, float(np.exp(log_probs.max(-1).mean())) if len(log_probs) else 0.0


def argmax(output: np.ndarray, labels: list[str]) -> tuple[str, float]:
    """(1, classes) -> (label, probability)."""
    log_probs = log_softmax(output[0])
    index = int(log_probs.argmax())
    return labels[index] if labels else str(index), float(np.exp(log_probs[index]))


POSTPROCESS: dict[str, Any] = {"ctc": ctc, "argmax": argmax}
DETAILS: dict[str, Any] = {}
WRITES: dict[str, Any] = {}  # of models that go on from what they were given
ANSWERS: dict[str, Any] = {}  # of models that are asked again with what they wrote
REMEMBERS: dict[str, Any] = {}  # of models that are cut into steps


def reading(outputs: dict[str, np.ndarray], manifest: dict[str, Any], beam: int = 0) -> tuple[str, float]:
    """What the outputs of one example say: (text, confidence). A step with "outputs" takes those, by name; else it takes one."""
    settings = dict(manifest["postprocess"][0])
    op = settings.pop("op", None)
    function = known(op, "POSTPROCESS")
    if len(manifest["postprocess"]) != 1 or function is None:
        raise Refused(f"manifest.json asks for the step {op!r}, which this reader does not know")
    several = settings.pop("outputs", None)
    name = settings.pop("output", next(iter(outputs)))
    output = {name: outputs[name] for name in several} if several else outputs[name]
    if op == "ctc":
        settings["beam"] = beam
    try:
        text, confidence = function(output, manifest["labels"], **settings)
        return text, confidence
    except TypeError as error:
        raise Refused(f"the step {op!r} does not fit: {error}") from None


def asking(folder: Path, session: Any, manifest: dict[str, Any], threads: int = 1) -> Any:
    """What a model that writes is asked through, feeds -> outputs: cut into steps where the bundle has those, else the whole graph."""
    graphs = {graph["role"]: graph for graph in manifest["graphs"]}
    remembering = known("step", "REMEMBERS")
    if "step" not in graphs or remembering is None:
        return lambda feeds: run(session, feeds)
    provider = session.get_providers()[0]
    opened = {role: open_model(_inside(folder, graphs[role]["file"]), threads, provider) for role in ("step", "encoder") if role in graphs}
    call = {role: (lambda feeds, part=part: run(part, feeds)) for role, part in opened.items()}
    shapes = {port["name"]: port["shape"] for port in graphs["step"]["inputs"]}
    return remembering(call["step"], shapes["past"], call.get("encoder"), shapes.get("memory", ["batch"]))


def read_file(session: Any, manifest: dict[str, Any], raw: bytes, beam: int = 0, ask: Any = None) -> tuple[str, float]:
    """A file's bytes -> (text, confidence). A model that writes its answer word by word is asked until it ends, through `ask`."""
    settings = dict(manifest["postprocess"][0]) if manifest["preprocess"] and manifest["postprocess"] else {}
    function = known(settings.pop("op", None), "ANSWERS")
    if function is None:
        return together([reading(outputs, manifest, beam) for outputs in answers(session, manifest, raw)])
    output = settings.pop("output", session.get_outputs()[0].name)
    feeds = apply(raw, manifest["preprocess"])
    ask = ask or (lambda fed: run(session, fed))
    text, confidence = function(lambda fed: ask(fed)[output], feeds, manifest["labels"], beam=beam, **settings)
    return text, confidence


def write_on(
    session: Any, manifest: dict[str, Any], raw: bytes, steps: int, temperature: float = 0.0, seed: int = 0, ask: Any = None
) -> tuple[str, float]:
    """A file's bytes -> (how it goes on, confidence): the model is asked again with what was written, `steps` times, through `ask`."""
    settings = dict(manifest["postprocess"][0]) if manifest["preprocess"] and manifest["postprocess"] else {}
    function = known(settings.pop("op", None), "WRITES")
    if function is None:
        raise Refused("this model answers once, so there is nothing to --write")
    port, output = session.get_inputs()[0].name, settings.pop("output", session.get_outputs()[0].name)
    ids = apply(raw, manifest["preprocess"])
    ask = ask or (lambda fed: run(session, fed))
    call = lambda ids: ask({port: ids})[output]  # noqa: E731
    text, confidence = function(call, ids, manifest["labels"], steps=steps, temperature=temperature, seed=seed, **settings)
    return text, confidence


def answers(session: Any, manifest: dict[str, Any], raw: bytes) -> list[dict[str, np.ndarray]]:
    """A file's bytes -> what the model answers, once for each part of a file that is too long for one answer."""
    if not (manifest["preprocess"] and manifest["postprocess"]):
        raise Refused("manifest.json declares no way from a file to a reading, so only --self-test and --profile work")
    parts, name = apply_in_parts(raw, manifest["preprocess"]), session.get_inputs()[0].name
    return [run(session, _feeds(part, name)) for part in parts]


def together(readings: list[tuple[str, float]]) -> tuple[str, float]:
    """The (text, confidence) of a file's parts as those of the file: texts in a row, and the parts' mean confidence, geometric."""
    if len(readings) == 1:
        return readings[0]
    texts, confidences = zip(*readings)  # noqa: B905 (Python 3.8)
    return " ".join(text for text in texts if text), math.exp(sum(math.log(max(each, 1e-30)) for each in confidences) / len(confidences))


def details(outputs: dict[str, np.ndarray], manifest: dict[str, Any]) -> Any:
    """What --json tells beside the reading, where a step file has more to say (boxes, shares); None where it has not."""
    settings = dict(manifest["postprocess"][0])
    function = known(settings.pop("op", None), "DETAILS")
    if function is None:
        return None
    several, name = settings.pop("outputs", None), settings.pop("output", next(iter(outputs)))
    return function({name: outputs[name] for name in several} if several else outputs[name], manifest["labels"], **settings)


def _feeds(made: Any, name: str) -> dict[str, np.ndarray]:
    return made if isinstance(made, dict) else {name: made}


# -- the golden vectors ----------------------------------------------------------------------------------------------

DTYPES = {1: "<f4", 2: "u1", 3: "i1", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}


def read_tensor(data: bytes) -> tuple[str, np.ndarray]:
    """An ONNX TensorProto with raw data -> (name, array). Fields: 1 dims, 2 data_type, 8 name, 9 raw_data."""
    dims: list[int] = []
    kind, name, raw, at = 0, "", b"", 0
    while at < len(data):
        key, at = _varint(data, at)
        field, wire = key >> 3, key & 7
        if wire not in (0, 2):
            raise ValueError("a field of an unknown kind")
        size, at = _varint(data, at)  # of a plain field this is the value
        value, at = (data[at : at + size], at + size) if wire == 2 else (b"", at)
        if field == 1:
            dims += _varints(value) if wire == 2 else [size]
        elif field == 2:
            kind = size
        elif field == 8:
            name = value.decode("utf-8")
        elif field == 9:
            raw = value
    return name, np.frombuffer(raw, dtype=DTYPES[kind]).reshape(dims)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if not byte & 128:
            return value, at
        if shift > 63:
            raise ValueError("a number that does not end")


def _varints(data: bytes) -> list[int]:
    found, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        found.append(value)
    return found


def self_test(folder: Path, session: Any, manifest: dict[str, Any]) -> list[str]:
    """Replay every golden set: raw image -> tensor -> output -> reading. Returns what is off, in words; empty when all holds."""
    golden = json.loads((folder / "golden" / "tolerances.json").read_text(encoding="utf-8"))
    faults = [] if golden["sets"] else ["golden/tolerances.json names no set"]
    for entry in golden["sets"]:
        faults += [f"golden/{entry['set']}: {fault}" for fault in _replay(folder / "golden", entry, golden, session, manifest)]
    for name, own in golden.get("graphs", {}).items():  # the parts of a model that writes, each by itself
        part = open_model(_inside(folder, name), provider=session.get_providers()[0])
        for entry in own["sets"]:
            faults += [f"golden/{entry['set']}: {fault}" for fault in _replay(folder / "golden", entry, own, part, manifest)]
    return faults


def _replay(golden: Path, entry: dict[str, Any], tolerances: dict[str, Any], session: Any, manifest: dict[str, Any]) -> Iterator[str]:
    folder = _inside(golden, entry["set"])
    feeds = dict(_tensors(folder, "input", [port.name for port in session.get_inputs()]))
    wanted = dict(_tensors(folder, "output", [port.name for port in session.get_outputs()]))
    got = run(session, feeds)
    for name, expected in wanted.items():
        yield from _apart(name, got[name], expected, tolerances["outputs"][name])
    if "raw" in entry["checks"]:
        made = _feeds(apply(_inside(golden, entry["raw"]).read_bytes(), manifest["preprocess"]), next(iter(feeds)))
        for name, array in made.items():
            yield from _apart(f"{name} made from {entry['raw']}", array, feeds[name], tolerances["inputs"][name])
    if "reading" in entry["checks"]:
        text = reading(got, manifest)[0]
        if text != entry["reading"]:
            yield f"reads {text!r}, expected {entry['reading']!r}"


def _inside(folder: Path, name: str) -> Path:
    if ".." in Path(name).parts or Path(name).is_absolute():
        raise Refused(f"golden/tolerances.json names {name!r}, which is outside")
    return folder / name


def _tensors(folder: Path, side: str, names: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    for index, name in enumerate(names):
        yield name, read_tensor((folder / f"{side}_{index}.pb").read_bytes())[1]


def _apart(name: str, got: np.ndarray, expected: np.ndarray, allowed: dict[str, float]) -> Iterator[str]:
    if got.shape != expected.shape:
        yield f"{name} has shape {list(got.shape)}, expected {list(expected.shape)}"
    elif got.size:
        room = allowed["atol"] + allowed["rtol"] * np.abs(expected.astype(np.float64))
        apart = np.abs(got.astype(np.float64) - expected.astype(np.float64))
        if not np.all(apart <= room):  # a number that is none fails too
            yield f"{name} differs by up to {np.nanmax(apart):.3g}, allowed {allowed['atol']:.3g}"


# -- latency ---------------------------------------------------------------------------------------------------------

X86 = ("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "amx_int8")
ARM = ("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve")
WHAT = (
    "One call of onnxruntime's session.run, batch 1, inputs and outputs in memory, after warm-up: no file reading, no decoding. "
    "{0} rounds in random order beside a copy of the model. low_ms and ratios: the 10 % quantile of the rounds' fastest calls, by {1}; "
    "intervals: bootstrap over rounds, 95 %. Too noisy: the copy appears more than {2:.0f} % apart."
)
NOISE = 0.05  # two copies of the model that appear further apart than this: too noisy to judge by


def device() -> dict[str, Any]:
    """This machine as a profile names it. Equal fingerprints may be compared."""
    import onnxruntime

    name, flags = _processor()
    found = {
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
        "cpu": name,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "isa": sorted(flags & {*X86, *ARM}),
        "machine": platform.machine(),
        "os": f"{platform.system()} {platform.release()}",
        "providers": onnxruntime.get_available_providers(),
    }
    parts = [found[key] for key in ("cpu", "machine", "cores", "isa", "onnxruntime", "providers")]
    found["fingerprint"] = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    return found


def _processor() -> tuple[str, set[str]]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), set()
    pairs = [[side.strip() for side in line.split(":", 1)] for line in lines if ":" in line]
    table = dict(reversed([(key.lower(), value) for key, value in pairs]))
    name = table.get("model name") or table.get("hardware") or table.get("model") or platform.machine()
    return name, set((table.get("flags") or table.get("features") or "").split())


def profile(
    folder: Path, manifest: dict[str, Any], reference: Path | None = None, threads: int = 1, rounds: int = 120, provider: str = CPU
) -> dict[str, Any]:
    """Latency of the model here, interleaved with a copy of itself and, if given, a reference file; see "what" for the method."""
    model = folder / manifest["graphs"][0]["file"]
    files = {"this": model, "copy": model}
    if reference:
        files["reference"] = reference
    sessions = {name: open_model(path, threads, provider) for name, path in files.items()}
    probes = {}
    for number, (name, shapes) in enumerate(manifest["probes"].items()):
        generator = np.random.RandomState(number)
        ports = {port["name"]: port for port in manifest["graphs"][0]["inputs"]}
        feeds = {key: _noise(generator, shape, ports[key]) for key, shape in shapes.items()}
        probes[name] = _probe(_times(sessions, feeds, threads, rounds, number), shapes, threads)
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "profile",
        "made_by": "reader.py",
        "file": _file(model),
        "reference": _file(reference) if reference else None,
        "device": device(),
        "threads": threads,
        "provider": provider,
        "level": "all",
        "headline": next(iter(probes)),
        "probes": probes,
        "too_noisy": any(probe["noise"]["too_noisy"] for probe in probes.values()),
        "what": WHAT.format(rounds, "processor time of the calling thread" if threads == 1 else "wall time", 100 * NOISE),
    }


def _noise(generator: Any, shape: list[int], port: dict[str, Any]) -> np.ndarray:
    """Random numbers that the input takes: integers within its values, else 0 to 1."""
    low, high = port.get("values") or (0, 1)
    whole = port["dtype"].startswith(("int", "uint"))
    return np.asarray(generator.randint(low, high + 1, shape) if whole else generator.uniform(0, 1, shape)).astype(port["dtype"])


def _file(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"name": path.name, "sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}


def _times(sessions: dict[str, Any], feeds: dict[str, np.ndarray], threads: int, rounds: int, seed: int) -> dict[str, np.ndarray]:
    """{name: (rounds, 2) milliseconds}: wall and processor time of the fastest of three calls a round, order drawn anew each round."""
    order = np.random.RandomState(seed)
    clock = time.thread_time if threads == 1 else time.process_time
    found: dict[str, list[Any]] = {name: [] for name in sessions}
    for round_ in range(-3, rounds):
        for index in order.permutation(len(sessions)):
            name = list(sessions)[index]
            calls = []
            for _ in range(3):
                wall, cpu = time.perf_counter(), clock()
                sessions[name].run(None, feeds)
                calls.append(((time.perf_counter() - wall) * 1e3, (clock() - cpu) * 1e3))
            if round_ >= 0:
                found[name].append(calls)
    return {name: np.array(calls) for name, calls in found.items()}


def _probe(times: dict[str, np.ndarray], shapes: dict[str, list[int]], threads: int) -> dict[str, Any]:
    judged = {name: np.maximum(calls[..., 1 if threads == 1 else 0].min(1), 1e-6) for name, calls in times.items()}
    noise = _ratio(judged["this"], judged["copy"])
    spread = max(abs(noise["low"] - 1), abs(noise["high"] - 1))
    paired = "reference" in judged
    return {
        "shapes": shapes,
        **_figures(times["this"], judged["this"], threads),
        "reference": _figures(times["reference"], judged["reference"], threads) if paired else None,
        "ratio": _ratio(judged["this"], judged["reference"]) if paired else None,
        "noise": {"ratio": noise, "spread": spread, "bound": NOISE, "too_noisy": bool(not spread <= NOISE)},
    }


def _figures(calls: np.ndarray, judged: np.ndarray, threads: int) -> dict[str, Any]:
    wall, cpu = _summary(calls[..., 0]), _summary(calls[..., 1])
    return {
        "wall_ms": wall,
        "cpu_ms": cpu if threads == 1 else None,
        "low_ms": float(np.quantile(judged, 0.1)),
        "calls": int(calls[..., 0].size),
    }


def _summary(times: np.ndarray) -> dict[str, float]:
    quantiles = {f"p{q}": float(np.quantile(times, q / 100)) for q in (10, 50, 90, 99)}
    return {"min": float(times.min()), **quantiles}


def _ratio(after: np.ndarray, before: np.ndarray) -> dict[str, Any]:
    """10 % quantile of one over that of the other, with a bootstrap interval over rounds drawn together."""
    rows = np.random.RandomState(0).randint(0, after.size, (1000, after.size))
    drawn = np.quantile(after[rows], 0.1, axis=1) / np.quantile(before[rows], 0.1, axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {
        "value": float(np.quantile(after, 0.1) / np.quantile(before, 0.1)),
        "low": float(low),
        "high": float(high),
        "rounds": int(after.size),
    }


# -- the command -----------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], epilog="Exit codes: 0 done, 1 self-test failed, 2 usage, 3 bundle or file refused."
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="files to read")
    parser.add_argument(
        "--beam",
        nargs="?",
        const=BEAM,
        default=0,
        type=int,
        metavar="WIDTH",
        help="beam search instead of the best class a step (width 5)",
    )
    parser.add_argument("--write", default=0, type=int, metavar="N", help="of a model of texts: how the text goes on, N signs of it")
    parser.add_argument("--temperature", default=0.0, type=float, help="with --write: 0 the likeliest signs, 1 as the model's chances are")
    parser.add_argument("--seed", default=0, type=int, help="with --temperature: the same seed writes the same")
    parser.add_argument("--json", action="store_true", help="print one JSON object a file, with confidence")
    parser.add_argument("--threads", type=int, default=1, help="threads of the runtime (1)")
    parser.add_argument("--provider", default=CPU, help=f"onnxruntime's execution provider ({CPU})")
    parser.add_argument("--self-test", action="store_true", help="replay the golden vectors on this machine")
    parser.add_argument("--profile", type=Path, metavar="OUT.json", help="measure latency here and write it")
    parser.add_argument("--reference", type=Path, metavar="MODEL.onnx", help="with --profile: time this file beside it")
    chosen = parser.parse_args(arguments)
    if not (chosen.files or chosen.self_test or chosen.profile):
        parser.error("give a file, --self-test or --profile OUT.json")
    if chosen.threads < 1 or chosen.beam < 0:
        parser.error("--threads is at least 1, --beam at least 0")
    if chosen.write < 0 or not 0 <= chosen.temperature <= 100 or not 0 <= chosen.seed < 2**32:
        parser.error("--write and --seed are at least 0, --temperature is 0 to 100")
    try:
        return _act(chosen)
    except Refused as refusal:
        print(f"reader.py: {refusal}", file=sys.stderr)
        return 3


def _act(chosen: argparse.Namespace) -> int:
    faults = check_sums(HERE)
    if faults:
        raise Refused(f"this bundle is not as it was made: {'; '.join(faults[:3])}")
    manifest = read_manifest(HERE)
    if chosen.profile:
        _write(chosen.profile, profile(HERE, manifest, chosen.reference, chosen.threads, provider=chosen.provider))
    if not (chosen.files or chosen.self_test):
        return 0
    session = open_model(HERE / manifest["graphs"][0]["file"], chosen.threads, chosen.provider)
    faults = self_test(HERE, session, manifest) if chosen.self_test else []
    for fault in faults:
        print(fault)
    if chosen.self_test and not faults:
        print("every golden vector is reproduced here")
    for path in chosen.files:
        text, confidence, more = _read(path, session, manifest, chosen)
        _print(path, text, confidence, more, chosen)
    return 1 if faults else 0


def _read(path: Path, session: Any, manifest: dict[str, Any], chosen: argparse.Namespace) -> tuple[str, float, Any]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None
    try:
        if chosen.write:
            ask = asking(HERE, session, manifest, chosen.threads)
            return (*write_on(session, manifest, raw, chosen.write, chosen.temperature, chosen.seed, ask), None)
        if known((manifest["postprocess"] or [{}])[0].get("op"), "ANSWERS"):
            return (*read_file(session, manifest, raw, chosen.beam, asking(HERE, session, manifest, chosen.threads)), None)
        found = answers(session, manifest, raw)
        readings = [reading(outputs, manifest, chosen.beam) for outputs in found]
        return (*together(readings), details(found[0], manifest))
    except Refused as refusal:
        raise Refused(f"{path}: {refusal}") from None


def _print(path: Path, text: str, confidence: float, more: Any, chosen: argparse.Namespace) -> None:
    if chosen.json:
        said = {"schema_version": SCHEMA_VERSION, "file": str(path), "reading": text, "confidence": round(confidence, 4)}
        print(json.dumps(said if more is None else {**said, "found": more}, ensure_ascii=False))
    else:
        print(text if len(chosen.files) == 1 else f"{path}\t{text}")


def _write(path: Path, value: dict[str, Any]) -> None:
    try:
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise Refused(f"{path} cannot be written: {error.strerror}") from None
    print(f"profile written to {path}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
