"""One file that a killed training continues from: tensors, and beside them plain JSON, sealed by a SHA-256 over both.

It is a safetensors file; the JSON and the seal are its metadata. One file, moved into place in one go: a kill at any moment
leaves the old checkpoint or the new one. A damaged one is noticed by its seal and never used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.files import write_bytes

if TYPE_CHECKING:
    from torch import Tensor


class Damaged(Exception):
    """A checkpoint that does not match its seal, with what is wrong."""


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
    """Publish `tensors` and `facts` (JSON; NaN refused) as one file. Raises Problem (exit 5) when the disk is full."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    text = json.dumps(facts, sort_keys=True, allow_nan=False)
    return write_bytes(path, save(plain, {"facts": text, "seal": seal(plain, text)}))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write` was given. Raises Damaged when any of it changed."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise Damaged(str(error)) from error
    if "seal" not in metadata or seal(tensors, metadata.get("facts", "")) != metadata["seal"]:
        raise Damaged("its contents do not match its SHA-256")
    return tensors, json.loads(metadata["facts"])


def seal(tensors: Mapping[str, Tensor], text: str) -> str:
    """SHA-256 over the text and every tensor's name, type, shape and bytes, in the order of their names."""
    total = hashlib.sha256(text.encode())
    for part in blocks(tensors):
        total.update(part)
    return total.hexdigest()


def blocks(tensors: Mapping[str, Tensor]) -> Iterable[bytes | memoryview]:
    """The bytes that identify a set of tensors."""
    import torch

    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode()
        yield tensor.reshape(-1).view(torch.uint8).numpy().data
