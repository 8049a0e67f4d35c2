"""The arrows of the house: who may import whom, and what starts without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {"rules": {"advisor", "compress", "cli", "torch", "numpy"}, "advisor": {"compress", "cli"}, "compress": {"advisor", "cli"}}


def imports(path: Path) -> set[str]:
    """Top-level packages a module imports at run time; imports under TYPE_CHECKING do not count."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


@pytest.mark.parametrize("room", sorted(FORBIDDEN))
def test_no_room_imports_one_it_must_not_know(room: str) -> None:
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        if "reader" in path.parts:
            continue
        assert not imports(path) & FORBIDDEN[room], f"{path.relative_to(ROOT)} imports {imports(path) & FORBIDDEN[room]}"


TORCH_FREE = [
    ["--help"],
    ["--version"],
    ["recommend", "--task", "ocr"],
    ["matrix"],
    ["devices"],
    ["explain", "crnn"],
    ["doctor"],
    ["run", "--help"],
    ["gate", "--help"],
    ["bundle", "verify", "--help"],
]


@pytest.mark.parametrize("arguments", TORCH_FREE, ids=" ".join)
def test_a_torch_free_command_answers_without_importing_torch(arguments: list[str]) -> None:
    script = f"import sys; sys.argv = ['advisor', *{arguments!r}]\nimport cli\ntry:\n    cli.main()\nexcept SystemExit as end:\n    assert end.code in (0, None), end.code\nassert 'torch' not in sys.modules, 'torch was imported'"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_answer_path_needs_neither_numpy_nor_rich() -> None:
    script = "import sys; sys.argv = ['advisor', 'recommend', '--task', 'ocr']\nimport cli\ntry:\n    cli.main()\nexcept SystemExit:\n    pass\nprint(sorted({'numpy', 'rich', 'onnx', 'onnxruntime'} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
