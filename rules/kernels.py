"""A machine's kernels: the time of an operator as a sum of what it has to do, each thing at the price measured on that machine.

Channels count as the runtime pads them, to whole vectors: 17 cost what 32 do. What cannot be kept in blocks of channels is copied
apart and multiplied as a plain matrix. Weights that no cache holds are fetched again on every call. A price is never negative, so
more work of a kind never takes less time. `terms` says what an operator has to do; `compress/calibrate.py` finds the prices.
Evaluated without numpy: `advisor recommend` reads it.
Sources: onnxruntime, core/mlas (blocked convolution, packed products); measured for this project, docs/calibrate.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

from rules.facts import Kernels, Operator

VECTOR = 16  # floats in the widest register, and columns of a packed product
QUAD = 4  # bytes an integer dot product adds at once
FILTERS = 64  # channels that one pass over a blocked input makes
REMEMBERED = (
    32_768  # branches, one a value, that a processor guesses right (measured: PReLU takes 1.2 ns a value up to there, 3.2 ns beyond)
)
STRIP = 12  # rows of a product that one pass over the packed weights makes
CONVOLUTIONS = ("Conv", "FusedConv")
QUANTIZED_PRODUCTS = ("QLinearMatMul", "QGemm", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul")
PRODUCTS = ("MatMul", "FusedMatMul", "Gemm", "FusedGemm")
RECURRENT = {"LSTM": 4, "DynamicQuantizeLSTM": 4, "GRU": 3, "RNN": 1}
FREE = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")  # views: no bytes move
PAIRED = ("Add", "Sub", "Mul", "Div", "Pow", "PRelu", "Where", "QLinearAdd", "QLinearMul")  # two sides, one of which may be smaller
BY_ROW = {
    *("Softmax", "LogSoftmax", "QLinearSoftmax", "LayerNormalization", "SkipLayerNormalization", "InstanceNormalization", "GroupNorm"),
    *("ReduceMean", "ReduceMax", "ReduceSum", "Transpose", "Slice", "Concat", "Split", "Gather", "Pad", "Expand", "BiasGelu"),
    *("QLinearConcat", "Einsum", "CumSum", "TopK", "ArgMax", "Tile", "GatherND", "ScatterND"),
}
SIMILAR = {  # whose price stands in for a kernel's that was not met
    "conv": ("pw", "plain"),
    "pw": ("conv", "plain"),
    "first": ("conv", "plain"),
    "dw": ("dw-plain",),
    "dw-plain": ("dw",),
    "plain": ("conv",),
    "transposed": ("plain",),
    "gemm": ("matmul",),
    "matmul": ("gemm",),
    "q-conv": ("q-pw",),
    "q-pw": ("q-conv",),
    "q-grouped": ("q-conv",),
    "q-dw": ("q-dw-odd",),
    "q-dw-odd": ("q-dw",),
    "q-gemm": ("dynamic",),
    "q-matmul": ("q-gemm", "dynamic"),
    "dynamic": ("q-gemm",),
    "LSTM": ("GRU",),
    "GRU": ("LSTM",),
    "RNN": ("GRU", "LSTM"),
    "DynamicQuantizeLSTM": ("LSTM",),
}
SHORTEST = 1e-7  # s: no run is shorter, whatever the prices say
Terms = Iterator[tuple[str, float]]


def up(value: int, block: int) -> int:
    """The next multiple of `block`."""
    return -(-value // block) * block


def terms(op: Operator) -> Terms:
    """What an operator has to do, as (name, amount): operations in padded channels, bytes, passes, one for being there at all."""
    yield "node", 1.0
    if op.relaid_bytes:
        yield f"relaid.{'float' if op.dtype == 'float' else 'byte'}", op.relaid_bytes
    yield from _kernel(op)


def _kernel(op: Operator) -> Terms:
    if op.op in CONVOLUTIONS:
        return _blocked(op) if op.blocked else _unblocked(op)
    if op.op == "QLinearConv":
        return _integer_convolution(op)
    if op.op == "ConvTranspose":
        return _transposed(op)
    if op.op in PRODUCTS:
        return _product(op)
    if op.op in QUANTIZED_PRODUCTS:
        return _integer_product(op)
    if op.op in RECURRENT:
        return _recurrent(op)
    return _moved(op)


def _blocked(op: Operator) -> Terms:
    """A float convolution over blocks of channels."""
    if op.groups > 1 and op.inputs == 1:
        channels = up(op.groups, VECTOR)
        yield "dw", 1.0
        yield "dw.macs", op.rows * channels * op.window
        yield "dw.edge", _edge(op) * channels
        yield "dw.bytes", op.in_bytes + op.out_bytes
        return
    first = op.groups == 1 and op.inputs < VECTOR
    name = "first" if first else "pw" if op.window == 1 else "conv"
    summed = op.inputs if first else up(op.inputs, VECTOR)
    made = up(op.outputs, VECTOR) * op.groups
    yield name, 1.0
    yield f"{name}.macs", op.rows * summed * op.window * made
    yield f"{name}.loads", op.rows * summed * op.window * op.groups * -(-op.outputs // FILTERS)
    yield f"{name}.edge", _edge(op) * summed * made
    yield f"{name}.out", op.rows * made * (1 if first else -(-summed // 128))
    yield f"{name}.weights", op.weight_bytes


def _edge(op: Operator) -> float:
    """Positions of a window at the left and right edge, which are made one at a time."""
    side = round(op.window**0.5)
    return op.rows / max(op.width, 1) * (side - 1) * op.window if side > 1 else 0.0


def _unblocked(op: Operator) -> Terms:
    """A float convolution as copies of its windows and a product: positions fill the vectors."""
    if op.groups > 1 and op.inputs == 1:
        yield "dw-plain", 1.0
        yield "dw-plain.groups", op.groups
        yield "dw-plain.copied", op.groups * op.rows * op.window
        yield "dw-plain.out", op.groups * op.rows
        return
    copied = op.groups * op.rows * op.inputs * op.window
    yield "plain", 1.0
    yield "plain.groups", op.groups
    yield "sgemm.macs", op.groups * up(op.outputs, 6) * up(op.rows, VECTOR) * op.inputs * op.window
    yield "plain.copied", copied * (1 if op.window > 1 else 0)
    yield "plain.packed", copied
    yield "plain.out", op.out_bytes
    yield "plain.weights", op.weight_bytes


def _transposed(op: Operator) -> Terms:
    yield "transposed", 1.0
    yield "sgemm.macs", op.rows * op.inputs * up(op.outputs * op.window, VECTOR) * op.groups
    yield "transposed.copied", op.groups * op.rows * op.outputs * op.window
    yield "transposed.out", op.out_bytes


def _integer_convolution(op: Operator) -> Terms:
    if op.groups > 1 and op.inputs == 1:
        name = "q-dw" if op.groups % VECTOR == 0 else "q-dw-odd"
        yield name, 1.0
        yield f"{name}.macs", op.rows * op.groups * op.window
        yield f"{name}.positions", op.rows * op.window
        yield f"{name}.out", op.rows * op.groups
        yield f"{name}.tail", op.rows * op.window * (op.groups % VECTOR)
        return
    name = "q-grouped" if op.groups > 1 else "q-pw" if op.window == 1 else "q-conv"
    summed = up(op.inputs * op.window, QUAD)
    yield name, 1.0
    yield f"{name}.macs", op.groups * op.rows * summed * up(op.outputs, VECTOR)
    yield f"{name}.copied", op.groups * op.rows * op.inputs * op.window
    yield f"{name}.windows", op.rows * op.window * op.groups
    yield f"{name}.sums", op.groups * op.rows * summed
    yield f"{name}.out", op.groups * op.rows * op.outputs
    yield f"{name}.tail", op.groups * op.rows * (op.outputs % VECTOR)
    yield f"{name}.odd", op.groups * op.rows * op.outputs if op.outputs % QUAD else 0.0
    yield f"{name}.weights", op.weight_bytes


def _product(op: Operator) -> Terms:
    """A float product; with constant weights they are packed beforehand."""
    name = "gemm" if op.weight_bytes >= op.inputs * op.outputs else "matmul"
    packed = op.groups * op.inputs * up(op.outputs, VECTOR)
    yield name, 1.0
    if op.rows == 1:
        yield f"{name}.row", op.groups
        yield f"{name}.row.weights", packed
        return
    yield f"{name}.batch", op.groups
    yield "sgemm.macs", packed * op.rows
    yield f"{name}.passes", packed * -(-op.rows // STRIP)
    if name == "matmul":
        yield "matmul.packed", packed
    yield f"{name}.in", op.groups * op.rows * op.inputs
    yield f"{name}.out", op.groups * op.rows * op.outputs


def _integer_product(op: Operator) -> Terms:
    dynamic = op.op in ("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulInteger")
    name = "dynamic" if dynamic else "q-gemm" if op.weight_bytes >= op.inputs * op.outputs else "q-matmul"
    packed = op.groups * up(op.inputs, QUAD) * up(op.outputs, VECTOR)
    yield name, 1.0
    yield f"{name}.{op.op}", 1.0
    yield f"{name}.batch", op.groups
    yield f"{name}.macs", packed * op.rows
    yield f"{name}.passes", packed * -(-op.rows // STRIP)
    yield f"{name}.in", op.groups * op.rows * op.inputs
    yield f"{name}.out", op.groups * op.rows * op.outputs


def _recurrent(op: Operator) -> Terms:
    """The inputs of all steps in one product, then the hidden values step by step."""
    gates, name = RECURRENT[op.op], op.op
    yield name, 1.0
    yield f"{name}.directions", op.groups
    yield f"{name}.steps", op.steps * op.groups
    yield f"{name}.in.macs", op.groups * op.steps * op.rows * up(gates * op.outputs, VECTOR) * op.inputs
    yield f"{name}.hidden.macs", op.groups * op.steps * op.rows * up(gates * op.outputs, VECTOR) * op.outputs
    yield f"{name}.cells", op.groups * op.steps * op.rows * op.outputs
    yield f"{name}.in", op.groups * op.steps * op.rows * op.inputs
    yield f"{name}.weights", op.weight_bytes


def _moved(op: Operator) -> Terms:
    """Everything else is values in and values out; and rows, where each row is set up or looked up apart."""
    name = kind_of(op)
    yield name, 1.0
    if op.op in FREE:
        return
    yield f"{name}.out", _values(op) * op.window
    if op.op in BY_ROW:
        yield f"{name}.rows", op.rows
    elif op.op in PAIRED and op.in_bytes < 2 * op.out_bytes:  # one side is repeated for every row
        yield f"{name}.repeated", op.rows
    if op.op == "PRelu" and _values(op) > REMEMBERED:
        yield f"{name}.guessed", _values(op) - REMEMBERED
    if op.in_bytes >= 2 * op.out_bytes and op.op not in PAIRED:
        yield f"{name}.in", op.in_bytes - op.out_bytes


def kind_of(op: Operator) -> str:
    """An operator that is no product, by its name, the numbers it works on and, for pools, the layout."""
    numbers = {"float": "", "uint8": "/8", "int8": "/8"}.get(op.dtype, "/i")
    return f"{op.op}{numbers}{'/blocked' if op.blocked and op.window > 1 else ''}"


def _values(op: Operator) -> float:
    return op.out_bytes / (1 if op.dtype in ("uint8", "int8") and op.op != "DequantizeLinear" else 4)


def fetched(operators: Sequence[Operator], caches: Sequence[int]) -> Terms:
    """Bytes of weights that a cache is too small to keep from one call to the next, and values that do not pass through it whole."""
    weights = sum(op.weight_bytes for op in operators)
    for level, size in enumerate(caches, 2):
        if weights > size / 2:
            yield f"fetched.l{level}", weights * min(1.0, 2 - size / weights)
        spilt = sum(moved for op in operators if (moved := op.in_bytes + op.out_bytes) > size)
        if spilt:
            yield f"spilt.l{level}", spilt


def amounts(operators: Sequence[Operator], caches: Sequence[int]) -> dict[str, float]:
    """All that a graph has to do in one run: name → amount."""
    found: dict[str, float] = {"run": 1.0}
    for op in operators:
        for name, amount in terms(op):
            if amount:
                found[name] = found.get(name, 0.0) + amount
    for name, amount in fetched(operators, caches):
        found[name] = found.get(name, 0.0) + amount
    return found


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds of one run with a 90 % interval. `unknown`: the share that stands at another operator's price."""

    low: float
    mid: float
    high: float
    unknown: float


def forecast(operators: Sequence[Operator], kernels: Kernels, precision: str) -> Forecast:
    """The time of a graph, and how sure it is.

    The fits that lack a group of nets each give their own time. How far those lie from the full fit's (root mean square of the
    logarithms), the floor, and the share at borrowed prices make one standard; the spread says between which multiples of it
    lay 90 % of the nets that no fit had seen (split conformal prediction: Lei et al. 2018, arXiv:1604.04173).
    """
    amount = amounts(operators, kernels.caches)
    known = {name: value for name, value in amount.items() if name in kernels.prices}
    priced = dict(known)
    for name, value in amount.items():
        instead = borrowed(name, kernels.prices) if name not in kernels.prices else None
        if instead is not None:
            priced[instead] = priced.get(instead, 0.0) + value
    times = [max(sum(value * kernels.prices[name][fit] for name, value in priced.items()), SHORTEST) for fit in range(fits(kernels))]
    sure = sum(value * kernels.prices[name][0] for name, value in known.items())
    unknown = max(0.0, 1 - sure / times[0])
    standard = scale([log(time / times[0]) for time in times[1:]], kernels.floor, unknown)
    low, high = kernels.spread.get(precision) or kernels.spread["fp32"]
    return Forecast(times[0] * exp(low * standard), times[0], times[0] * exp(high * standard), unknown)


def fits(kernels: Kernels) -> int:
    """How many prices everything has: the full fit's, and one for each group left out."""
    return min((len(found) for found in kernels.prices.values()), default=0)


def scale(apart: Sequence[float], floor: float, unknown: float = 0.0) -> float:
    """The standard of an interval: floor, disagreement of the fits and share at borrowed prices, as a root of squares."""
    disagreement = sum(value * value for value in apart) / max(1, len(apart))
    return sqrt(floor * floor + disagreement + unknown * unknown)


def borrowed(name: str, prices: Mapping[str, tuple[float, ...]]) -> str | None:
    """The price to take for something that no net of the calibration did: a similar kernel's, else any small operator's. None: free."""
    kernel, _, what = name.partition(".")
    for similar in SIMILAR.get(kernel, ()):
        instead = f"{similar}.{what}" if what else similar
        if instead in prices:
            return instead
    instead = "any" if not what else f"any.{what}"
    return instead if instead in prices else None
