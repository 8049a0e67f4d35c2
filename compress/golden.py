"""Golden vectors: real inputs with the outputs and readings they must give, so that a port can prove itself step by step.

`golden/test_data_set_k/{input_i,output_i}.pb` is the layout of the ONNX backend tests; `golden/raw/` holds the files the inputs were
made from; `golden/tolerances.json` says how far a runtime may be off, what each set must read, and which checks
the bundle's reader can make (a user's own steps it may not know). Integer kernels round differently
from processor to processor (microsoft/onnxruntime#19449 calls small differences expected), so an integer file's outputs get a wider
room and its readings are the check that counts.

Run as a program (`python -m compress.golden BUNDLE BYTES SECONDS`) it limits its own memory and time, replays every set with the
reader's own functions and prints one JSON line: the faults.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.context import Data, Predict
from compress.files import write_bytes, write_json
from compress.runtime import predictor
from compress.verify import RELATIVE, STEPS, output_step
from rules.examples import Feeds, Sample

if TYPE_CHECKING:
    from compress.beside import Part

SETS = 4
INTEGER = 0.05  # room of an integer file, as a share of its largest output; a float file's is verify.RELATIVE times ten
GREY_LEVELS = 255  # an input may differ by one of these, for other versions of an image library resize by a rounding apart
KINDS = {
    b"\x89PNG": "png",
    b"\xff\xd8\xff": "jpg",
    b"BM": "bmp",
    b"P5": "pgm",
    b"P6": "ppm",
    b"II*\x00": "tif",
    b"MM\x00*": "tif",
    b"RIFF": "webp",
}
MEMORY_BYTES = 4 * 2**30
SECONDS = 120


def samples(data: Data) -> list[Sample]:
    """The first raw test examples; where a task has none, its probes."""
    found = data.samples("test", SETS)
    return list(found) or [Sample(name, b"", feeds, "") for name, feeds in data.probes().items()]


def write(folder: Path, chosen: Sequence[Sample], *, graph: Path, data: Data, predict: Predict, parts: Sequence[Part] = ()) -> None:
    """Write `folder` (golden/): every set, its raw file and what it must read, and sets for each part of a model that is part."""
    step, integer = output_step(graph)
    entries, inputs, outputs = [], list[Feeds](), list[Feeds]()
    for index, sample in enumerate(chosen):
        got = predict(sample.inputs)
        inputs.append(sample.inputs)
        outputs.append(got)
        where = f"test_data_set_{index}"
        _write_set(folder / where, _ordered(sample.inputs, data.signature.inputs), _ordered(got, data.signature.outputs))
        entry = {"set": where, "name": sample.name, "truth": sample.truth, **_raw(folder, index, sample), **_reading(data, got)}
        entries.append({**entry, "checks": [check for check in _replayable(data) if check == "output" or check in entry]})
    room = {name: _room(values, step, integer=integer) for name, values in _by_name(outputs).items()}
    close = {name: {"atol": _grey(values), "rtol": 0.0} for name, values in _by_name(inputs).items()}
    own = {"graphs": {part.file.name: _of_part(folder, part) for part in parts}} if parts else {}
    write_json(
        folder / "tolerances.json",
        {"schema_version": 1, "kind": "integer" if integer else "float", "inputs": close, "outputs": room, "sets": entries, **own},
    )


def _of_part(folder: Path, part: Part) -> dict[str, Any]:
    """Sets of one part: what it is fed at each of its sizes, and what it answers."""
    step, integer = output_step(part.file)
    predict, entries, outputs = predictor(part.file), [], list[Feeds]()
    for name, feeds in part.data.probes().items():
        got = predict(feeds)
        outputs.append(got)
        _write_set(folder / f"{part.role}-{name}", _ordered(feeds, part.data.signature.inputs), _ordered(got, part.data.signature.outputs))
        entries.append({"set": f"{part.role}-{name}", "checks": ["output"]})
    return {"outputs": {name: _room(values, step, integer=integer) for name, values in _by_name(outputs).items()}, "sets": entries}


def _replayable(data: Data) -> Iterator[str]:
    """What the reader can replay: outputs always; raw files and readings where it knows the declared steps.

    A reading is replayed where an output decides: the digits of a forecast change with every rounding, and its numbers are compared already.
    """
    from compress.reader.reader import known

    yield "output"
    if data.preprocess and all(known(step.get("op"), "PREPROCESS") for step in data.preprocess):
        yield "raw"
    decides = any(port.decides for port in data.signature.outputs)
    if decides and len(data.postprocess) == 1 and known(data.postprocess[0].get("op"), "POSTPROCESS"):
        yield "reading"


def step_files(data: Data, *, cut: bool = False) -> list[Path]:
    """The files beside the reader that know steps of this data which the reader itself does not, and how a `cut` model is asked."""
    from compress.reader import reader

    asked = {("PREPROCESS", step.get("op")) for step in data.preprocess} | {("POSTPROCESS", step.get("op")) for step in data.postprocess}
    asked -= {(table, op) for table in ("PREPROCESS", "POSTPROCESS") for op in getattr(reader, table)}
    asked |= {("REMEMBERS", "step")} if cut else set()
    found = reader.extensions().items()
    return [reader.HERE / f"{name}.py" for name, steps in found if any(op in getattr(steps, table, {}) for table, op in asked)]


def _ordered(feeds: Feeds, ports: Sequence[Any]) -> dict[str, np.ndarray]:
    return {port.name: np.ascontiguousarray(feeds[port.name]) for port in ports}


def _write_set(folder: Path, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> None:
    from onnx import numpy_helper

    for side, arrays in (("input", inputs), ("output", outputs)):
        for index, (name, array) in enumerate(arrays.items()):
            write_bytes(folder / f"{side}_{index}.pb", numpy_helper.from_array(array, name).SerializeToString())


def _raw(folder: Path, index: int, sample: Sample) -> dict[str, str]:
    if not sample.raw:
        return {}
    kind = sample.suffix or next((kind for start, kind in KINDS.items() if sample.raw.startswith(start)), "bin")
    write_bytes(folder / "raw" / f"{index}.{kind}", sample.raw)
    return {"raw": f"raw/{index}.{kind}"}


def _reading(data: Data, outputs: Feeds) -> dict[str, str]:
    return {"reading": data.read(outputs)[0]} if data.postprocess else {}


def _by_name(feeds: Sequence[Feeds]) -> dict[str, list[np.ndarray]]:
    return {name: [entry[name] for entry in feeds] for name in feeds[0]} if feeds else {}


def _room(values: Sequence[np.ndarray], step: float | None, *, integer: bool) -> dict[str, float]:
    largest = max(float(np.abs(value).max(initial=0)) for value in values)
    if integer:
        return {"atol": max(INTEGER * largest, STEPS * (step or 0.0)), "rtol": 0.0}
    return {"atol": 10 * RELATIVE * max(largest, 1e-6), "rtol": 0.0}


def _grey(values: Sequence[np.ndarray]) -> float:
    span = max(float(value.max(initial=0)) for value in values) - min(float(value.min(initial=0)) for value in values)
    return 1.01 * span / GREY_LEVELS + 1e-6


# -- replaying, in a child process -----------------------------------------------------------------------------------------------


def replay(bundle: Path) -> list[str]:
    """Faults of the bundle's model against its golden vectors on this machine. The model runs in a child of bounded memory and time."""
    room = str(Path(__file__).resolve().parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [room, os.environ.get("PYTHONPATH")]))}
    memory = MEMORY_BYTES + 8 * (bundle / "model.onnx").stat().st_size if (bundle / "model.onnx").is_file() else MEMORY_BYTES
    command = [sys.executable, "-m", "compress.golden", str(bundle.resolve()), str(memory), str(SECONDS)]
    try:
        child = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=3 * SECONDS, env=environment, check=False)
        found = json.loads(child.stdout.splitlines()[-1])
        return [str(fault) for fault in found]
    except subprocess.TimeoutExpired:
        return [f"the model was still running after {3 * SECONDS} s"]
    except (IndexError, ValueError, TypeError):
        how = f"signal {-child.returncode}" if child.returncode < 0 else f"code {child.returncode}"
        return [f"the model brought its process down ({how}: out of memory or time)"]


def faults(bundle: Path) -> list[str]:
    """The replay itself, in this very process: whatever a stranger's bundle makes the reader stumble over is a fault, never a traceback."""
    from compress.reader import reader

    try:
        manifest = reader.read_manifest(bundle)
        found = []
        for provider in _providers(manifest["target"].get("provider")):
            session = reader.open_model(bundle / manifest["graphs"][0]["file"], provider=provider)
            found += reader.self_test(bundle, session, manifest)
        return found
    except MemoryError:
        return ["replaying asks for more memory than a model of its size may"]
    except Exception as error:
        return [f"cannot be replayed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"]


def _providers(target: str | None) -> list[str]:
    """The processor always, and the target's own provider where this machine has it."""
    import onnxruntime

    if target is None or target == "CPUExecutionProvider" or target not in onnxruntime.get_available_providers():
        return ["CPUExecutionProvider"]
    return ["CPUExecutionProvider", target]


def main(arguments: Sequence[str]) -> int:
    """The child's whole life: limits, replay, one line."""
    from compress.hostile import _limit

    _limit(int(arguments[1]), int(arguments[2]))
    print(json.dumps(faults(Path(arguments[0]))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
