"""Operators × the rates of a device → a predicted latency with a 90 % interval. A roofline with a fee for each node.

time = Σ max(macs / (rate × efficiency), bytes / bandwidth) + nodes × node        (Williams, Waterman and Patterson 2009)

Published rates are those of large matrix products, and small layers reach a part of them. The efficiencies below were read off
nets of 16 to 192 channels in onnxruntime on one AVX-512 core: 3x3 convolutions reach 0.9 of the fp32 peak and 1x1 ones half of
it, 8-bit ones 0.4 of theirs; depthwise and first layers, which add up few products a value, reach a fifth; an LSTM multiplies one
row at a time and gains twofold from 8 bits where a convolution gains more than threefold. A measured rate is that of an ordinary
convolution and is taken as it is. On the six recognisers that these numbers were chosen on, predictions were 23 % low to 19 % high.

The interval is wide because the model is simple. Fitted to a machine, operations + bytes + nodes were off by 22 % in the median
over nets the fit had not seen; a log-normal error of that median has its 90 % between ×0.59 and ×1.7, which is the interval for
measured rates. Rates from data sheets add the efficiency, which differs twofold between layers and runtimes: ×0.4 to ×2.5.
No interval covers a runtime that falls back, throttles, or shares its core.

A machine that was calibrated (`advisor calibrate`) has prices for its kernels instead of rates, and an interval learnt on nets the
fit had not seen: `rules/kernels.py`. They are used where the graph was counted in the precision that ships.
"""

from __future__ import annotations

from collections.abc import Sequence

from rules.facts import Card, Cost, Device, Kernels, Kind, Operator, Prediction, Rate, Variant
from rules.kernels import forecast

BYTES = {"fp32": 4, "fp16": 2, "int16": 2, "int8": 1}
PUBLISHED = (0.4, 2.5)
MEASURED = (0.59, 1.7)
RECURRENT = ("LSTM", "GRU", "RNN")
COUNT = "published count"  # stands for a whole graph, in the precision that ships
QUANTIZED = ("QLinear", "DynamicQuantize", "Integer")  # as onnxruntime names its 8-bit kernels
SHORT_SUM = 32  # products a value: 9 in a depthwise 3x3, 27 in a first layer of three channels
EFFICIENCY = {"fp32": {"recurrent": 0.4, "short": 0.2, "other": 0.7}, "int8": {"recurrent": 0.24, "short": 0.2, "other": 0.5}}
UNKNOWN = 0.01  # share of a time at borrowed prices from which it is said
PARAMS_OVERHEAD = 1.1  # scales, zero points, biases kept in 32 bits and the graph itself, beside one byte a weight


def shipped_precision(card: Card, device: Device) -> str:
    """What the pipeline ships: fp16 on a GPU and int8 on a CPU, where the device has it and the architecture takes it."""
    wanted = "fp16" if device.kind == "gpu" else "int8"
    takes = card.traits.get("int8", "none") != "none"
    return wanted if takes and wanted in device.precisions else "fp32"


def cost_of(card: Card, variant: Variant, costs: Sequence[Cost], precision: str) -> Cost | None:
    """The counted operators of a variant: in this precision, else in fp32; at the shape its counts are for, else at the first."""
    mine = [cost for cost in costs if cost.variant == variant.name]
    ranked = sorted(mine, key=lambda cost: (cost.precision != precision, cost.precision != "fp32", cost.shape != variant.shape))
    return ranked[0] if ranked and ranked[0].precision in (precision, "fp32") else None


def size_of(variant: Variant, cost: Cost | None, precision: str) -> int | None:
    """Bytes of the shipped file: counted where the graph was exported in this precision, else from the parameters."""
    if cost is not None and cost.precision == precision:
        return cost.size_bytes
    if not variant.params:
        return None
    return int(variant.params * BYTES[precision] * (PARAMS_OVERHEAD if precision == "int8" else 1.0))


def memory_of(variant: Variant, cost: Cost | None, precision: str, *, weights_in_flash: bool = False) -> int | None:
    """Bytes of the weights and the largest layer's input and output, without the runtime itself.

    On a microcontroller the weights are read from flash where they lie, and only what flows counts. Without a counted graph nobody
    knows how much that is, and the weights stand in for it.
    """
    size = size_of(variant, cost, precision)
    if size is None or cost is None:
        return size
    size = 0 if weights_in_flash else size
    narrow = BYTES[cost.precision] / BYTES[precision]
    return size + int(max((op.in_bytes + op.out_bytes for op in cost.operators), default=0) / narrow)


def predict(variant: Variant, cost: Cost | None, device: Device, precision: str) -> Prediction | None:
    """The latency of one call, batch 1, one thread. None where nothing was counted or the device has no rate."""
    if device.kernels is not None and cost is not None and cost.precision == precision and detailed(cost):
        return _calibrated(cost, device, device.kernels)
    rate = device.rates.get(precision) or device.rates.get("fp32")
    operators = cost.operators if cost else _published(variant, precision)
    if rate is None or not operators:
        return None
    counted = cost.precision if cost else precision
    narrow = BYTES[counted] / BYTES[precision]
    mid = 1000 * sum(_seconds(op, _rate_of(op, device, counted, rate), device, narrow) for op in operators)
    used = [rate, *(device.rates[name] for name in ("memory", "node") if name in device.rates)]
    low, high = MEASURED if rate.kind == "measured" and cost else PUBLISHED
    return Prediction(
        low_ms=mid * low,
        mid_ms=mid,
        high_ms=mid * high,
        precision=precision,
        kind="estimate",
        basis=_basis(variant, cost, device, precision, rate),
        sources=tuple(dict.fromkeys([*(item.source for item in used), *([variant.source] if variant.source and not cost else [])])),
    )


def detailed(cost: Cost) -> bool:
    """Whether the operators say enough for kernels' prices: tables of before say only bytes and operations."""
    return all(op.dtype for op in cost.operators if op.macs)


def _calibrated(cost: Cost, device: Device, kernels: Kernels) -> Prediction:
    found = forecast(cost.operators, kernels, cost.precision)
    unknown = f"; {100 * found.unknown:.0f} % of it in operators that were not measured" if found.unknown >= UNKNOWN else ""
    return Prediction(
        low_ms=1000 * found.low,
        mid_ms=1000 * found.mid,
        high_ms=1000 * found.high,
        precision=cost.precision,
        kind="measured",
        basis=(
            f"{len(cost.operators)} operators of the exported graph at {cost.shape} over the kernels of {device.name} as measured on "
            f"{kernels.date} with onnxruntime {kernels.runtime}, {cost.precision}, 1 thread{unknown}"
        ),
        sources=(device.source,),
    )


def _published(variant: Variant, precision: str) -> tuple[Operator, ...]:
    if not variant.macs:
        return ()
    return (Operator(COUNT, variant.macs, variant.params * BYTES[precision], 0, 0),)


def _rate_of(op: Operator, device: Device, counted: str, rate: Rate) -> Rate:
    """In a graph that was exported as int8, what stayed float runs at the float rate."""
    stayed_float = counted == "int8" and op.op != COUNT and not any(name in op.op for name in QUANTIZED)
    return device.rates.get("fp32", rate) if stayed_float else rate


def _seconds(op: Operator, rate: Rate, device: Device, narrow: float) -> float:
    kind, numbers = _class(op), "fp32" if rate is not device.rates.get("int8") else "int8"
    reached = rate.value if rate.kind == "measured" and kind == "other" else rate.value * EFFICIENCY[numbers][kind]
    memory = device.rates.get("memory")
    node = device.rates.get("node")
    moved = (op.weight_bytes + op.in_bytes + op.out_bytes) / narrow / memory.value if memory else 0.0
    return max(op.macs / reached, moved) + (node.value if node else 0.0)


def _class(op: Operator) -> str:
    if any(name in op.op for name in RECURRENT):
        return "recurrent"
    values = op.out_bytes / (1 if op.op.startswith("QLinear") else 4)
    return "short" if values and op.macs and op.macs / values < SHORT_SUM else "other"


def _basis(variant: Variant, cost: Cost | None, device: Device, precision: str, rate: Rate) -> str:
    counted = f"{len(cost.operators)} operators of the exported graph" if cost else "the published count of operations"
    shape = cost.shape if cost else variant.shape
    missing = "" if precision in device.rates else f"; no {precision} rate is known, fp32's was taken"
    kinds: dict[Kind, str] = {"measured": "measured", "published": "published", "estimate": "estimated"}
    return f"{counted} at {shape} over {kinds[rate.kind]} rates of {device.name}, {precision}, 1 thread{missing}"
