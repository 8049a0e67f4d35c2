"""Weights of matrix products in blocks of four bits, rounded as they are or one after another, each error mended by what is still to come.

A block of one output's weights has a scale and a zero point of its own, value = (number - zero) · scale, 0 to 15. The blocks are packed
as onnxruntime's operator MatMulNBits takes them: two numbers a byte, the lower half first.
GPTQ rounds the inputs of a product in their order; what rounding one of them changes in the outputs is taken back, as far as it goes, by
the weights that are not rounded yet. Which ones can, the products of the inputs with each other say (the Hessian of the squared error).
Source: Frantar et al. 2022, arXiv:2210.17323, algorithm 1 with groups; onnxruntime contrib operators, com.microsoft.MatMulNBits. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = 15  # the largest number of four bits
DAMP = 0.01  # of the Hessian's mean diagonal, added to it: the paper's
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Weights (inputs, outputs) as numbers (outputs, inputs) of 0 to 15, with scales and zero points (outputs, blocks)."""

    numbers: NDArray[np.uint8]
    scales: NDArray[np.float32]
    zeros: NDArray[np.uint8]
    size: int

    def values(self) -> NDArray[np.float32]:
        """What they stand for, (inputs, outputs)."""
        inputs = self.numbers.shape[1]
        scales, zeros = (np.repeat(each.astype(np.float32), self.size, 1)[:, :inputs] for each in (self.scales, self.zeros))
        found: NDArray[np.float32] = ((self.numbers.astype(np.float32) - zeros) * scales).T
        return found

    def packed(self) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
        """As MatMulNBits takes them: (outputs, blocks, size / 2), (outputs, blocks), (outputs, blocks / 2 rounded up)."""
        outputs, inputs = self.numbers.shape
        count = self.scales.shape[1]
        whole = np.repeat(self.zeros, self.size, 1)  # what fills up the last block stands for nothing
        whole[:, :inputs] = self.numbers
        pairs = whole.reshape(outputs, count, self.size)
        zeros = np.concatenate([self.zeros, np.zeros((outputs, count % 2), np.uint8)], 1)
        packed, ends = (each[..., 0::2] | np.left_shift(each[..., 1::2], 4) for each in (pairs, zeros))
        return packed.astype(np.uint8), self.scales, ends.astype(np.uint8)


def grid(weights: Floats) -> tuple[Floats, Floats]:
    """Scale and zero point of each row of (outputs, size): its range with 0 in it, in 15 steps."""
    low, high = np.minimum(weights.min(1), 0), np.maximum(weights.max(1), 0)
    scale = np.maximum((high - low) / LEVELS, 1e-12).astype(np.float32).astype(np.float64)  # as it is stored
    return scale, np.clip(np.round(-low / scale), 0, LEVELS)


def gptq(weights: NDArray[np.float32], hessian: Floats, *, size: int) -> Blocks:
    """Weights (inputs, outputs) in blocks of `size`; `hessian` (inputs, inputs) sums the products of the inputs with each other."""
    left: Floats = weights.T.astype(np.float64)
    outputs, inputs = left.shape
    reach = _reach(hessian)
    numbers = np.zeros((outputs, inputs), np.uint8)
    scales, zeros = [], []
    for start in range(0, inputs, size):
        end = min(start + size, inputs)
        scale, zero = grid(left[:, start:end])
        for place in range(start, end):
            number = np.clip(np.round(left[:, place] / scale) + zero, 0, LEVELS)
            error = (left[:, place] - (number - zero) * scale) / reach[place, place]
            left[:, place + 1 :] -= error[:, None] * reach[place, place + 1 :]
            numbers[:, place] = number
        scales.append(scale)
        zeros.append(zero)
    return Blocks(numbers, np.stack(scales, 1).astype(np.float32), np.stack(zeros, 1).astype(np.uint8), size)


def rounded(weights: NDArray[np.float32], *, size: int) -> Blocks:
    """Weights (inputs, outputs) in blocks of `size`, each rounded to the nearest: what GPTQ gives where no input tells of another."""
    return gptq(weights, np.eye(len(weights)), size=size)


def _reach(hessian: Floats) -> Floats:
    """How far an error in one input reaches the later ones: the upper Cholesky factor of the inverse Hessian. Silent inputs reach none."""
    found = hessian.astype(np.float64)
    diagonal = np.einsum("ii->i", found)
    diagonal[diagonal <= 0] = 1.0
    diagonal += DAMP * diagonal.mean()
    return np.asarray(np.linalg.cholesky(np.linalg.inv(found)).T)
