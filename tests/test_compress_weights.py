"""A model on disk: what is saved comes back bit for bit, other sizes are taken up, hostile files are refused."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from compress.refit import refit
from compress.weights import ModelSpec, digest, imported, load, read_state, save
from rules.problems import Exit, Problem
from tests.tasks_for_tests import tiny_module

TINY = ModelSpec("tests.tasks_for_tests:build", {"channels": 8})


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    module = tiny_module(3, channels=8)
    save(module, TINY, tmp_path, "module")
    back, spec = load(tmp_path, "module")
    assert spec == TINY and digest(back) == digest(module) and not back.training
    assert sorted(p.name for p in tmp_path.iterdir()) == ["module.json", "module.safetensors"]


def test_a_narrower_module_comes_back_from_the_spec_it_was_pruned_from(tmp_path):
    pruned = tiny_module(3, channels=5, hidden=7).eval()
    save(pruned, TINY, tmp_path, "module")  # the spec says 8 channels and 16 hidden
    back, _ = load(tmp_path, "module")
    image = torch.randn(2, 1, 32, 64)
    assert torch.equal(back(image), pruned(image)) and digest(back) == digest(pruned)
    assert back.lstm.hidden_size == 7 and back.conv2.in_channels == 5 and back.head.in_features == 14


def test_a_module_that_was_resized_still_trains_and_exports(tmp_path):
    module = refit(tiny_module(channels=8), tiny_module(1, channels=5, hidden=7).state_dict())
    module(torch.randn(2, 1, 32, 64)).sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in module.parameters())
    torch.onnx.export(module.eval(), (torch.randn(1, 1, 32, 64),), str(tmp_path / "m.onnx"), dynamo=False)


def seq(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


RESIZES: dict[str, tuple[Callable[[int], nn.Module], Any]] = {
    "conv1d": (lambda n: seq(nn.Conv1d(3, n, 3), nn.Conv1d(n, 4, 1)), torch.randn(2, 3, 9)),
    "conv2d": (lambda n: seq(nn.Conv2d(3, n, 3, bias=False), nn.BatchNorm2d(n), nn.Conv2d(n, 4, 1)), torch.randn(2, 3, 9, 9)),
    "conv3d": (lambda n: seq(nn.Conv3d(3, n, 3), nn.Conv3d(n, 4, 1)), torch.randn(2, 3, 5, 5, 5)),
    "depthwise": (lambda n: seq(nn.Conv2d(3, n, 1), nn.Conv2d(n, n, 3, groups=n), nn.Conv2d(n, 4, 1)), torch.randn(2, 3, 9, 9)),
    "depthwise with a multiplier": (
        lambda n: seq(nn.Conv2d(3, n, 1), nn.Conv2d(n, 2 * n, 3, groups=n), nn.Conv2d(2 * n, 4, 1)),
        torch.randn(2, 3, 9, 9),
    ),
    "grouped": (lambda n: seq(nn.Conv2d(4, n, 3, groups=2), nn.Conv2d(n, 4, 1, groups=2)), torch.randn(2, 4, 9, 9)),
    "transposed": (lambda n: seq(nn.ConvTranspose2d(3, n, 3), nn.ConvTranspose2d(n, 4, 2, stride=2)), torch.randn(2, 3, 5, 5)),
    "transposed depthwise": (lambda n: seq(nn.Conv2d(3, n, 1), nn.ConvTranspose2d(n, n, 3, groups=n)), torch.randn(2, 3, 5, 5)),
    "linear": (lambda n: seq(nn.Linear(3, n), nn.LayerNorm(n), nn.Linear(n, 4)), torch.randn(2, 3)),
    "group norm": (lambda n: seq(nn.Conv2d(3, n, 1), nn.GroupNorm(2, n), nn.Conv2d(n, 4, 1)), torch.randn(2, 3, 5, 5)),
    "embedding": (lambda n: seq(nn.Embedding(11, n), nn.Linear(n, 4)), torch.randint(0, 11, (2, 5))),
    "lstm": (lambda n: seq(nn.Linear(3, n), nn.LSTM(n, n + 2)), torch.randn(6, 2, 3)),
    "bidirectional lstm, two layers": (
        lambda n: seq(nn.Linear(3, n), nn.LSTM(n, n + 2, num_layers=2, bidirectional=True)),
        torch.randn(6, 2, 3),
    ),
    "gru, batch first": (lambda n: seq(nn.Linear(3, n), nn.GRU(n, n + 2, batch_first=True, bidirectional=True)), torch.randn(2, 6, 3)),
    "rnn without bias": (lambda n: seq(nn.Linear(3, n), nn.RNN(n, n + 2, bias=False)), torch.randn(6, 2, 3)),
    "batch norm without weights": (
        lambda n: seq(nn.Conv1d(3, n, 1), nn.BatchNorm1d(n, affine=False), nn.Conv1d(n, 4, 1)),
        torch.randn(2, 3, 9),
    ),
}


@pytest.mark.parametrize(("make", "example"), RESIZES.values(), ids=RESIZES)
@pytest.mark.parametrize(("built", "stored"), [(8, 4), (4, 8)], ids=["narrower", "wider"])
def test_every_kind_of_layer_takes_the_stored_size(make, example, built, stored):
    wanted, module = make(stored).eval(), make(built).eval()
    refit(module, wanted.state_dict())
    first = [m(example) for m in (module, wanted)]
    assert torch.equal(*(x[0] if isinstance(x, tuple) else x for x in first))
    module.train()
    for layer, twin in zip(module, wanted, strict=True):
        assert repr(layer) == repr(twin)


MISFITS: dict[str, tuple[nn.Module, nn.Module, str]] = {
    "kernel": (seq(nn.Conv2d(3, 4, 3)), seq(nn.Conv2d(3, 4, 5)), "0.*kernel size"),
    "dimensions": (seq(nn.Linear(3, 4)), seq(nn.Conv1d(3, 4, 1)), "0.weight"),
    "layer count": (seq(nn.Linear(3, 4)), seq(nn.Linear(3, 4), nn.Linear(4, 4)), "1.bias"),
    "missing bias": (seq(nn.Linear(3, 4)), seq(nn.Linear(3, 4, bias=False)), "0.bias"),
    "recurrent gates": (seq(nn.LSTM(3, 4)), seq(nn.GRU(3, 4)), "0"),
}


@pytest.mark.parametrize(("module", "other", "named"), MISFITS.values(), ids=MISFITS)
def test_weights_that_cannot_fit_are_refused_by_name(module, other, named):
    with pytest.raises(Problem, match=named) as caught:
        refit(module, other.state_dict())
    assert caught.value.code == Exit.INPUT and "\n" not in str(caught.value)


def test_a_bare_parameter_of_another_shape_is_refused_by_name():
    class Scaled(nn.Module):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(n))

    with pytest.raises(Problem, match="'scale' has shape"):
        refit(Scaled(3), Scaled(4).state_dict())


@pytest.mark.parametrize("name", ["module.json", "module.safetensors"])
@pytest.mark.parametrize("how", ["flip", "cut", "remove", "grow"])
def test_a_damaged_model_is_never_loaded(tmp_path, name, how):
    save(tiny_module(channels=8), TINY, tmp_path, "module")
    path, data = tmp_path / name, (tmp_path / name).read_bytes()
    if how == "remove":
        path.unlink()
    else:
        place = data.index(b'"sha256"') + 14 if name.endswith("json") else len(data) // 2
        path.write_bytes(
            {"flip": data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :], "cut": data[: len(data) // 2], "grow": data + b"{"}[how]
        )
    with pytest.raises(Problem, match="damaged") as caught:
        load(tmp_path, "module")
    assert caught.value.code == Exit.INPUT


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (ModelSpec("no colon"), "write package.module:name"),
        (ModelSpec("no_such_package.here:build"), "no module named 'no_such_package'"),
        (ModelSpec("tests.tasks_for_tests:bild"), "bild"),
        (ModelSpec("tests.tasks_for_tests:build", {"chanels": 3}), "chanels"),
        (ModelSpec("tests.tasks_for_tests:spelled", {"symbols": [1]}), "returned str, expected torch.nn.Module"),
    ],
)
def test_a_spec_that_builds_nothing_says_why(spec, says):
    with pytest.raises(Problem, match=says) as caught:
        spec.build()
    assert caught.value.code == Exit.USAGE


def test_a_module_that_needs_something_missing_is_no_typo(tmp_path, monkeypatch):
    (tmp_path / "my_net.py").write_text("import something_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Problem, match="needs something_not_installed, which is not installed") as caught:
        imported("my_net:build")
    assert caught.value.code == Exit.ENVIRONMENT


# -- the user's own files ------------------------------------------------------------------------------------------------


class Payload:
    """A pickle that would run a command."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "bare pickle"])
def test_a_pickle_that_wants_to_run_code_does_not(tmp_path, legacy):
    path, mark = tmp_path / "net.pt", tmp_path / "ran"
    if legacy:
        path.write_bytes(pickle.dumps({"w": Payload(mark)}, protocol=2))
    else:
        torch.save({"w": torch.ones(2), "x": Payload(mark)}, path)
    with pytest.raises(Problem, match="wants to run code") as caught:
        read_state(path)
    assert caught.value.code == Exit.INPUT and "safetensors" in str(caught.value) and not mark.exists()


def test_a_whole_pickled_module_is_not_opened(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "net.pt")
    with pytest.raises(Problem, match="wants to run code"):
        read_state(tmp_path / "net.pt")


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}], ids=["plain", "state_dict", "model"]
)
def test_the_state_is_found_where_people_put_it(tmp_path, wrap):
    module = tiny_module(2)
    torch.save(wrap(module.state_dict()), tmp_path / "net.pt")
    assert digest(refit(tiny_module(), read_state(tmp_path / "net.pt"))) == digest(module)


REFUSED: dict[str, Any] = {
    "a number": 3,
    "nothing": {},
    "a list": [torch.ones(2)],
    "text beside tensors": {"a": torch.ones(2), "b": "text"},
    "a claim of a terabyte": {"a": torch.ones(1).expand(2**20, 2**20)},
    "a sparse tensor": {"a": torch.eye(3).to_sparse()},
    "complex numbers": {"a": torch.ones(2, dtype=torch.complex64)},
}


@pytest.mark.parametrize("held", REFUSED.values(), ids=REFUSED)
def test_what_is_no_plain_state_is_refused(tmp_path, held):
    torch.save(held, tmp_path / "net.pt")
    with pytest.raises(Problem) as caught:
        read_state(tmp_path / "net.pt")
    assert caught.value.code == Exit.INPUT


def test_a_compressed_archive_is_not_unpacked(tmp_path):
    torch.save({"a": torch.zeros(1000)}, tmp_path / "net.pt")
    with zipfile.ZipFile(tmp_path / "net.pt") as plain, zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for entry in plain.infolist():
            bomb.writestr(entry.filename, plain.read(entry))
    with pytest.raises(Problem, match="compressed records"):
        read_state(tmp_path / "bomb.pt")


@pytest.mark.parametrize(
    ("name", "says"), [("absent.pt", "no file"), ("net.h5", "no weights file"), ("net.safetensors", "damaged"), ("net.pt", "damaged")]
)
def test_a_file_that_holds_no_weights_is_refused_in_one_line(tmp_path, name, says):
    if name != "absent.pt":
        (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(Problem, match=says) as caught:
        read_state(tmp_path / name)
    assert caught.value.code == Exit.INPUT and "\n" not in str(caught.value)


def mutants(data: bytes, count: int, seed: int) -> Any:
    """Flipped, cut, grown and shuffled copies of `data`."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        copy = bytearray(data)
        place = int(rng.integers(min(len(copy), 600) if number % 2 else len(copy)))  # half of them in the header
        match number % 5:
            case 0 | 1:
                copy[place] ^= 1 << int(rng.integers(8))
            case 2:
                del copy[place:]
            case 3:
                copy[place:place] = rng.bytes(int(rng.integers(1, 40)))
            case 4:
                del copy[place : place + int(rng.integers(1, 40))]
        yield bytes(copy)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".old.pt"])
def test_two_hundred_mutated_files_give_a_problem_or_a_state(tmp_path, suffix):
    module, path = nn.Sequential(nn.Linear(3, 4), nn.LSTM(4, 3)), tmp_path / f"net{suffix}"
    if suffix == ".safetensors":
        save_file(module.state_dict(), path)
    else:
        torch.save(module.state_dict(), path, _use_new_zipfile_serialization=suffix == ".pt")
    refused = 0
    for data in mutants(path.read_bytes(), 200, seed=1):
        path.write_bytes(data)
        try:
            refit(nn.Sequential(nn.Linear(3, 4), nn.LSTM(4, 3)), read_state(path))
        except Problem as problem:
            assert problem.code == Exit.INPUT
            refused += 1
    assert refused > 60


def test_two_hundred_mutations_of_a_saved_model_are_all_refused(tmp_path):
    save(tiny_module(channels=4, hidden=4), ModelSpec("tests.tasks_for_tests:build", {"channels": 4}), tmp_path, "module")
    for name, seed in (("module.safetensors", 2), ("module.json", 3)):
        path = tmp_path / name
        whole = path.read_bytes()
        for data in mutants(whole, 100, seed):
            path.write_bytes(data)
            try:
                load(tmp_path, "module")
            except Problem:
                continue
            assert name == "module.json" and json.loads(data)["sha256"] == json.loads(whole)["sha256"]  # only what describes was touched
        path.write_bytes(whole)
