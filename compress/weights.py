"""A model on disk: which function builds it with which settings, and its weights. No pickle, so nothing in it can run.

`<name>.safetensors` holds the numbers, `<name>.json` the spec, the shapes and the SHA-256 of the numbers. A pruned model has
the spec it was built from; its sizes come from the stored shapes (`refit`).
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.checkpoint import blocks
from compress.files import sha256, write_bytes, write_json
from compress.refit import refit
from rules.problems import Problem, bad_environment, bad_input

if TYPE_CHECKING:
    from torch import Tensor, nn

SCHEMA_VERSION = 1
WANTS_CODE = re.compile(r"GLOBAL |allowlisted|call reduce")  # how torch's restricted reader says so


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """`package.module:function`, and the keyword arguments to call it with (JSON)."""

    builds: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """Import the function and call it. Raises Problem (exit 2) saying what is wrong with either."""
        function = imported(self.builds)
        try:
            module = function(**self.settings)
        except (TypeError, ValueError) as error:
            raise Problem(f"{self.builds} with {dict(self.settings)} fails: {error}") from error
        from torch import nn

        if not isinstance(module, nn.Module):
            raise Problem(f"{self.builds} returned {type(module).__name__}, expected torch.nn.Module")
        return module


def imported(where: str) -> Any:
    """The object that `package.module:name` names. Raises Problem (exit 2)."""
    place, colon, name = where.partition(":")
    if not (place and colon and name):
        raise Problem(f"{where!r} names no object", remedy="write package.module:name")
    try:
        return getattr(import_module(place), name)
    except ModuleNotFoundError as error:
        if error.name is not None and not f"{place}.".startswith(f"{error.name}."):  # found, but it needs something that is missing
            raise bad_environment(
                f"{where} needs {error.name}, which is not installed", remedy="pip install 'edge-advisor[train]' brings ours"
            ) from error
        raise Problem(
            f"no module named {error.name!r} for {where!r}", remedy="is it on the Python path? Run from its folder or set PYTHONPATH"
        ) from error
    except (AttributeError, ValueError) as error:
        raise Problem(f"{where!r}: {error}", remedy="write package.module:name") from error


def save(module: nn.Module, spec: ModelSpec, folder: Path, name: str) -> Path:
    """Write `<name>.safetensors`, then `<name>.json`, which seals it. Returns the path of the latter."""
    from safetensors.torch import save as to_bytes

    state = {key: value.detach().cpu().contiguous().clone() for key, value in module.state_dict().items()}
    data = to_bytes(state)
    write_bytes(folder / f"{name}.safetensors", data)
    facts = {
        "schema_version": SCHEMA_VERSION,
        "spec": asdict(spec),
        "shapes": {key: list(value.shape) for key, value in state.items()},
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    return write_json(folder / f"{name}.json", facts)


def load(folder: Path, name: str) -> tuple[nn.Module, ModelSpec]:
    """The module in eval mode, and its spec. Raises Problem (exit 3) when a file is missing, damaged or of another model."""
    path, numbers = folder / f"{name}.json", folder / f"{name}.safetensors"
    try:
        facts = json.loads(path.read_bytes())
        spec = ModelSpec(str(facts["spec"]["builds"]), dict(facts["spec"]["settings"]))
        expected, version = facts["sha256"], facts["schema_version"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise bad_input(f"{path} is missing or damaged: {error}") from error
    if version != SCHEMA_VERSION:
        raise bad_input(f"{path} has schema_version {version!r}, this advisor reads {SCHEMA_VERSION}")
    if not numbers.is_file() or sha256(numbers) != expected:
        raise bad_input(f"{numbers} is missing or damaged", remedy="its SHA-256 must be the one in " + path.name)
    return refit(spec.build(), read_state(numbers)).eval(), spec


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, or of a `.pt`/`.pth` file that holds nothing but tensors.

    Raises Problem (exit 3) for a file that is missing, damaged, or a pickle that wants to run code; such code is never run.
    """
    if not path.is_file():
        raise bad_input(f"there is no file {path}")
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt"):
        return _tensors_of(_unpickled(path), path)
    raise bad_input(f"{path} is no weights file", remedy="allowed: .safetensors, or .pt and .pth that hold a state_dict")


def digest(module: nn.Module) -> str:
    """SHA-256 over every tensor of the module: name, type, shape, bytes."""
    total = hashlib.sha256()
    for part in blocks(module.state_dict()):
        total.update(part)
    return total.hexdigest()


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise bad_input(f"{path} is no safetensors file, or damaged: {_short(error)}") from error


def _unpickled(path: Path) -> Any:
    """What a `.pt` file holds, read by torch's reader that knows tensors and containers only."""
    import torch

    try:
        _refuse_bomb(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a stranger's bytes provoke, it is about the bytes
        if isinstance(error, pickle.UnpicklingError) and WANTS_CODE.search(str(error)):
            remedy = "save module.state_dict() with safetensors.torch.save_file and give that file"
            raise bad_input(f"{path} wants to run code, and is not opened", remedy=remedy) from error
        raise bad_input(f"{path} is damaged: {_short(error)}") from error


def _refuse_bomb(path: Path) -> None:
    """torch stores its records as they are; a compressed one may be any size once it is read."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("it holds compressed records, which torch does not write")


def _tensors_of(held: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in what was read: itself, or under the key people put it."""
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
            break
    if not isinstance(held, Mapping) or not held or not all(isinstance(key, str) for key in held):
        raise bad_input(f"{path} holds no state_dict, but {type(held).__name__}", remedy="save module.state_dict()")
    for key, value in held.items():
        _check_plain(key, value, path)
    return {key: value.detach() for key, value in held.items()}


def _check_plain(key: str, value: Any, path: Path) -> None:
    """A dense tensor on the processor whose every element is really stored."""
    import torch

    if not isinstance(value, torch.Tensor):
        raise bad_input(f"{path} holds {type(value).__name__} at {key!r}, expected a tensor", remedy="save module.state_dict()")
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized or value.is_complex():
        raise bad_input(f"{path}: {key!r} is no plain tensor ({value.layout}, {value.dtype}, {value.device})")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise bad_input(f"{path}: {key!r} claims {value.numel()} elements and stores fewer")


def _short(error: Exception) -> str:
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip() or type(error).__name__
    return text.splitlines()[0][:200]
