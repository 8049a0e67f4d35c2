"""QuantizeLinear, DequantizeLinear and the gradient of a learned step size: slow, obvious, one value at a time, in float64."""

from __future__ import annotations

import numpy as np


def quantize(x: np.ndarray, scale: float, zero: int, low: int, high: int) -> np.ndarray:
    """ONNX QuantizeLinear: divide, round half to even, add the zero point, saturate."""
    levels = [min(max(round(float(np.float32(value) / np.float32(scale))) + zero, low), high) for value in x.reshape(-1)]
    return np.array(levels, dtype=np.int64).reshape(x.shape)


def dequantize(levels: np.ndarray, scale: float, zero: int) -> np.ndarray:
    """ONNX DequantizeLinear."""
    return np.array([(int(level) - zero) * float(np.float32(scale)) for level in levels.reshape(-1)]).reshape(levels.shape)


def step_gradient(x: np.ndarray, scale: float, zero: int, low: int, high: int, upstream: np.ndarray) -> float:
    """d loss / d scale as Esser et al. 2020 define it: the rounding error inside the range, the bound outside; no weighting."""
    total = 0.0
    for value, grad in zip(x.reshape(-1), upstream.reshape(-1), strict=True):
        ratio = float(value) / scale
        level = round(ratio) + zero
        if level < low:
            slope = low - zero
        elif level > high:
            slope = high - zero
        else:
            slope = round(ratio) - ratio
        total += float(grad) * slope
    return total


def value_gradient(x: np.ndarray, scale: float, zero: int, low: int, high: int, upstream: np.ndarray) -> np.ndarray:
    """d loss / d x, straight through: the upstream gradient inside the range, nothing outside."""
    inside = [low <= round(float(value) / scale) + zero <= high for value in x.reshape(-1)]
    return np.where(np.array(inside).reshape(x.shape), upstream, 0.0)
