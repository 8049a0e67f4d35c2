"""What the shipped file must suit, derived from a device: integer format, versions, channel multiple, provider.

The instruction set decides the integer format. x86 without VNNI adds pairs of u8·s8 products in saturating 16 bits, so
it gets one bit less, which is as fast; unsigned weights are exact there too and gain little (`bench byte_formats`, docs/benchmarks.md).
ARM's dot products are signed; GPUs get half precision.
Source: onnxruntime documentation, "Quantize ONNX models", section on data type selection.
"""

from __future__ import annotations

from typing import Any

from compress.context import Target
from rules.facts import Device
from rules.problems import Problem

FORMATS: dict[str, dict[str, Any]] = {
    "u8s8": {"activation": "uint8", "weight": "int8", "reduce_range": False},
    "u8u8": {"activation": "uint8", "weight": "uint8", "reduce_range": False},
    "u8s8-reduced": {"activation": "uint8", "weight": "int8", "reduce_range": True},
    "s8s8": {"activation": "int8", "weight": "int8", "reduce_range": False},
}
HERE = "this-machine"


def target_for(device: Device, *, threads: int = 1, precision: str | None = None) -> Target:
    """The target of a device. `precision` overrides the device's own choice; int8 where it has it on a CPU, fp16 on a GPU.

    A device other than this machine is profiled here all the same, and marked as not measured on the target; for a GPU the
    CUDA provider is used where onnxruntime has it. Raises Problem (exit 2) for a precision the device does not have.
    """
    chosen = precision or _precision(device)
    if chosen not in device.precisions:
        raise Problem(f"{device.name} has no {chosen}", remedy=f"it has {', '.join(device.precisions)}")
    provider = _provider(device)
    return Target(
        name=device.name,
        precision=chosen,  # type: ignore[arg-type]  # checked above
        **FORMATS[device.integer_format],
        opset=device.opset,
        ir_version=device.ir_version,
        align=device.align,
        threads=threads,
        provider=provider,
        measured_here=device.name == HERE or (device.kind == "gpu" and provider != "CPUExecutionProvider" and _same_gpu(device)),
    )


def _precision(device: Device) -> str:
    wanted = ("fp16", "int8", "fp32") if device.kind == "gpu" else ("int8", "fp32")
    return next((name for name in wanted if name in device.precisions), "fp32")


def _provider(device: Device) -> str:
    if device.kind != "gpu":
        return "CPUExecutionProvider"
    import onnxruntime as ort

    return "CUDAExecutionProvider" if "CUDAExecutionProvider" in ort.get_available_providers() else "CPUExecutionProvider"


def _same_gpu(device: Device) -> bool:
    """Whether the CUDA device here has the compute capability of `device` (`sm87`), as the driver's own tool reports it."""
    import shutil
    import subprocess

    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    asked = subprocess.run(
        [tool, "--query-gpu=compute_cap", "--format=csv,noheader"], capture_output=True, text=True, timeout=20, check=False
    )
    return any(f"sm{line.strip().replace('.', '')}" in device.isa for line in asked.stdout.splitlines())
