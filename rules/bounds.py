"""Which numbers are possible, and which are plausible: every bound of the knowledge, stated once.

Readers refuse what is impossible; `advisor lint` reports what is possible and unlikely, because a unit was probably mistaken.
The bounds are wide on purpose: from a microcontroller of 2010 to an accelerator of today, with a decade to spare on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping

Bounds = tuple[float, float]

RATE: Mapping[str, Bounds] = {  # impossible outside; the fastest single accelerators reach 1e15 multiply-accumulates a second
    "fp32": (1e3, 1e16),
    "fp16": (1e3, 1e16),
    "int8": (1e3, 1e17),
    "memory": (1e3, 1e15),
    "node": (1e-10, 1.0),
}
CORES = (1, 100_000)
RAM_BYTES = (256, 10**15)

LIKELY_RATE: Mapping[str, Mapping[str, Bounds]] = {  # by kind of device; one thread on a CPU or a microcontroller, else the whole device
    "cpu": {"fp32": (1e8, 1e12), "fp16": (1e8, 2e12), "int8": (1e8, 1e13), "memory": (1e8, 1e12), "node": (1e-8, 1e-3)},
    "gpu": {"fp32": (1e9, 1e15), "fp16": (1e9, 2e15), "int8": (1e9, 4e15), "memory": (1e9, 2e13), "node": (1e-8, 1e-2)},
    "npu": {"fp32": (1e7, 1e15), "fp16": (1e8, 2e15), "int8": (1e8, 4e15), "memory": (1e8, 2e13), "node": (1e-8, 1e-2)},
    "mcu": {"fp32": (1e5, 1e10), "fp16": (1e5, 1e11), "int8": (1e5, 1e12), "memory": (1e5, 1e11), "node": (1e-8, 1e-1)},
}
LIKELY_RAM: Mapping[str, Bounds] = {"cpu": (16e6, 1e13), "gpu": (64e6, 1e13), "npu": (64e3, 1e13), "mcu": (1e3, 128e6)}
GAIN: Mapping[str, Bounds] = {"fp16": (0.25, 32.0), "int8": (0.25, 64.0)}  # a rate over the same device's fp32

PARAMS = (0, 10**13)
MACS = (0, 10**16)

UNIT: Mapping[str, Bounds] = {  # of a figure of evidence
    "%": (0.0, 100.0),
    "of 1": (0.0, 1.0),
    "points": (-100.0, 100.0),
    "ratio": (1e-4, 1e4),
    "times": (1e-4, 1e6),
    "ns": (0.1, 1e12),
    "µs": (1e-3, 1e9),
    "us": (1e-3, 1e9),
    "ms": (1e-4, 1e7),
    "s": (1e-7, 1e8),
    "min": (1e-3, 1e7),
    "minutes": (1e-3, 1e7),
    "h": (1e-3, 1e6),
    "hours": (1e-3, 1e6),
    "bytes": (1.0, 1e14),
    "kB": (1e-2, 1e11),
    "KiB": (1e-2, 1e11),
    "MB": (1e-4, 1e8),
    "MiB": (1e-4, 1e8),
    "GB": (1e-6, 1e5),
    "k": (1e-3, 1e9),
    "M": (1e-4, 1e7),
    "B": (1e-6, 1e4),
    "G": (1e-6, 1e7),
    "GMACs": (1e-6, 1e7),
    "GFLOPs": (1e-6, 1e7),
    "MMACs": (1e-4, 1e10),
    "MFLOPs": (1e-4, 1e10),
    "fps": (1e-4, 1e7),
    "Hz": (1e-4, 1e12),
    "mJ": (1e-9, 1e9),
    "µJ": (1e-6, 1e12),
    "mW": (1e-6, 1e7),
    "W": (1e-9, 1e4),
    "dB": (-200.0, 200.0),
    "BLEU": (0.0, 100.0),
    "COMET": (-2.0, 100.0),
}

LIMIT: Mapping[str, Bounds] = {  # thresholds of rules and defaults: a budget in megabytes where bytes are meant falls out below
    "request.latency_ms": (1e-3, 1e7),
    "request.size_bytes": (1e3, 1e14),
    "request.ram_bytes": (256, 1e14),
    "request.flash_bytes": (1e3, 1e14),
    "request.examples": (0, 1e12),
    "request.per_class": (0, 1e10),
    "request.classes": (1, 1e8),
    "request.charset_size": (1, 1e6),
    "request.length": (1, 1e8),
    "request.resolution": (1, 1e5),
    "device.ram_bytes": (256, 1e14),
    "device.cores": (1, 1e5),
    "variant.params": (0, 1e13),
    "variant.macs": (0, 1e16),
    "candidate.latency_ms_low": (1e-4, 1e7),
    "candidate.latency_ms_mid": (1e-4, 1e7),
    "candidate.latency_ms_high": (1e-4, 1e7),
    "candidate.size_bytes": (1e2, 1e14),
    "candidate.ram_bytes": (256, 1e14),
    "cell.fit": (0, 100),
}
FRACTION = (0.0, 1.0)  # settings that end in `max_drop` or `_ratio`


def outside(value: float, bounds: Bounds) -> bool:
    """Whether the number lies outside its bounds."""
    return not bounds[0] <= value <= bounds[1]


def said(bounds: Bounds) -> str:
    """`0.001 to 1e+07`"""
    return f"{bounds[0]:g} to {bounds[1]:g}"
