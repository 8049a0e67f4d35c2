"""This machine as a device: what its processor says it can do. Never fails; what cannot be read is assumed small and said so.

Linux answers through /proc and cgroups, macOS through the `platform` module. Rates are an estimate from the instruction set and
the clock: two fused multiply-adds a cycle over the vector width, which is what the large cores of the last ten years have
(Fog, "Instruction tables", agner.org/optimize). `advisor calibrate` measures and leaves a file, which then stands for this machine as
long as it has the same processor and the same runtime.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from advisor.home import home
from rules.facts import Device, Rate, Source

NAME = "this-machine"
SOURCE = Source(
    "this-machine",
    "Read from this machine: instruction sets, cores, clock and memory as the operating system reports them",
    "https://www.agner.org/optimize/instruction_tables.pdf",
    2026,
    "documentation",
    "Peak rates are two fused multiply-adds a cycle over the vector width: an estimate. Those marked measured come from advisor calibrate.",
)
ASSUMED_HZ = 2.0e9
ASSUMED_RAM = 2_000_000_000
MEMORY = 10e9  # bytes/s one core sustains; laptops and servers reach 8 to 20
NODE = 1e-6  # s, what onnxruntime spends on a small node beside its arithmetic
FLAGS = {  # as /proc/cpuinfo spells them -> as a device file does
    "avx2": "avx2",
    "avx512f": "avx512",
    "avx512_vnni": "avx512-vnni",
    "avx_vnni": "avx-vnni",
    "amx_int8": "amx",
    "asimd": "neon",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
}


@lru_cache(maxsize=1)
def detect() -> Device:
    """The device `this-machine`, read once a process."""
    return device_from(_read("/proc/cpuinfo"), machine=_machine(), cores=_cores(), ram_bytes=_ram())


def device_from(cpuinfo: str, *, machine: str, cores: int, ram_bytes: int) -> Device:
    """The device that a text of /proc/cpuinfo describes. `machine` is the architecture's name, e.g. "x86_64"."""
    fields = _fields(cpuinfo)
    isa = _isa(fields, machine)
    vnni = bool({"avx512-vnni", "avx-vnni", "amx"} & set(isa))
    return Device(
        name=NAME,
        title=f"this machine ({fields.get('model name') or fields.get('Model') or machine or 'unknown processor'})",
        kind="cpu",
        isa=isa,
        cores=max(1, cores),
        ram_bytes=ram_bytes,
        runtimes=("onnxruntime-cpu",),
        precisions=("fp32", "int8"),
        source=SOURCE.id,
        integer_format="u8s8" if vnni or isa[0] != "x86-64" else "u8s8-reduced",  # x86 without VNNI adds products in saturating 16 bits
        align=16 if "avx512" in isa else 8,
        rates=_rates(isa, _clock(cpuinfo), vnni=vnni),
        notes=("Rates are estimated from the instruction set and the clock; advisor calibrate measures.",),
    )


# -- calibrated ------------------------------------------------------------------------------------------------------


def calibrated_file() -> Path:
    """Where `advisor calibrate` leaves what it measured."""
    return home() / "devices" / f"{NAME}.toml"


def here() -> Device:
    """This machine: as calibrated where that was on this processor with this runtime, else as detected, with a note why.

    Raises Problem (exit 2) where the calibrated file is not one.
    """
    try:
        state = calibrated_file().stat()
    except OSError:
        return detect()
    return _calibrated(calibrated_file(), state.st_mtime_ns, state.st_size)[0]


def stale() -> str:
    """Why the calibration is not used, in one line with the command that mends it. Empty where it is used, or there is none."""
    try:
        state = calibrated_file().stat()
    except OSError:
        return ""
    return _calibrated(calibrated_file(), state.st_mtime_ns, state.st_size)[1]


@lru_cache(maxsize=4)
def _calibrated(path: Path, changed: int, size: int) -> tuple[Device, str]:
    """The device of the file and nothing, or the detected one and why. Read once for every state of the file."""
    from rules.reading import device
    from rules.tables import read_toml

    found, now = device(read_toml(path), NAME), detect()
    why = _differs(found, now)
    if not why:
        return replace(found, cores=now.cores, ram_bytes=now.ram_bytes), ""
    line = f"the calibration of this machine is not used: {why} (advisor calibrate measures anew)"
    return replace(now, notes=(*now.notes, line)), line


def _differs(found: Device, now: Device) -> str:
    if (found.title, found.isa) != (now.title, now.isa):
        return f"it was made on {found.title}, and this is {now.title}"
    runtime = runtime_version()
    if found.kernels is not None and runtime and found.kernels.runtime != runtime:
        return f"it was made with onnxruntime {found.kernels.runtime}, and {runtime} is installed"
    return ""


def runtime_version() -> str:
    """The version of onnxruntime that is installed, read from the name of its folder: importing it takes longer than the answer."""
    for entry in sys.path:
        for folder in Path(entry or ".").glob("onnxruntime-*.dist-info"):
            return folder.name.removeprefix("onnxruntime-").removesuffix(".dist-info")
    return ""


# -- detected --------------------------------------------------------------------------------------------------------


def _fields(cpuinfo: str) -> dict[str, str]:
    """The first processor's lines (and, on a Raspberry Pi, the board's name at the end)."""
    found: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip(), value.strip())
    return found


def _isa(fields: Mapping[str, str], machine: str) -> tuple[str, ...]:
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    base = {"x86_64": "x86-64", "amd64": "x86-64", "arm64": "aarch64", "aarch64": "aarch64"}.get(machine.lower(), machine or "unknown")
    found = [name for flag, name in FLAGS.items() if flag in flags]
    if base == "aarch64" and not flags:  # macOS: every 64-bit Apple core has both
        found = ["neon", "dotprod"]
    return (base, *found)


def _rates(isa: tuple[str, ...], clock: float, *, vnni: bool) -> dict[str, Rate]:
    # fp32 values a vector. AVX-512: 8 on Zen 4, which halves each vector, and 16 on cores with two full units; 12 is between.
    lanes = 12 if "avx512" in isa else 8 if "avx2" in isa else 4
    fp32 = 2 * lanes * clock
    widened = 4 if vnni or "dotprod" in isa else 1.5
    found = {"fp32": (fp32, "macs/s"), "int8": (fp32 * widened, "macs/s"), "memory": (MEMORY, "bytes/s"), "node": (NODE, "s")}
    return {name: Rate(value, unit, SOURCE.id, "estimate") for name, (value, unit) in found.items()}


def _clock(cpuinfo: str) -> float:
    """Hz: the highest the processor is allowed, else the highest it reports, to a tenth of a GHz so that answers stay put."""
    allowed = [_megahertz(_read("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")) / 1e3]  # the file counts in kHz
    seen = [_megahertz(line.partition(":")[2]) for line in cpuinfo.splitlines() if line.startswith("cpu MHz")]
    credible = [value for value in (allowed if allowed[0] else seen) if 100 <= value <= 10_000]
    return round(max(credible) / 100) * 1e8 if credible else ASSUMED_HZ


def _megahertz(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count() or 1


def _ram() -> int:
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        physical = ASSUMED_RAM
    allowed = _read("/sys/fs/cgroup/memory.max").strip()  # a container's limit; "max" where there is none
    return min(physical, int(allowed)) if allowed.isdigit() and int(allowed) else max(physical, 1)


def _machine() -> str:
    try:
        return os.uname().machine
    except (AttributeError, OSError):
        return os.environ.get("PROCESSOR_ARCHITECTURE", "")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
