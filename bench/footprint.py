"""What each extra costs: megabytes installed, and the seconds its packages take to import.

    python -m bench footprint [EXTRA ...]

Each extra goes into a virtual environment of its own, from the lock, on top of the core; sizes are those of the installed files, imports the
fastest of three fresh processes. Needs the package index; nothing of the environment it is called from is touched.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
IMPORTS = {  # what is imported first where the extra is used
    "": ("click", "numpy", "onnx", "onnxruntime"),
    "train": ("torch",),
    "train,vision": ("timm", "torchvision", "segmentation_models_pytorch"),
    "train,text": ("tokenizers", "transformers", "sacrebleu"),
    "train,audio": ("soundfile",),
    "train,tabular": ("pyarrow",),
    "train,video": ("av",),
}
SHIM = "from advisor.vision_operators import ensure; ensure(); "
ROUNDS = 3


def main(arguments: list[str]) -> int:
    """A table, an extra a row; exit code 1 where one could not be installed."""
    wanted = [extras for extras in IMPORTS if not arguments or (extras.split(",")[-1] or "core") in arguments]
    print("| extra | packages | MB | over the row it builds on | seconds to install | seconds to import |\n|---|---|---|---|---|---|")
    sizes: dict[str, float] = {}
    failed = False
    for extras in wanted:
        with TemporaryDirectory() as folder:
            began = time.monotonic()
            python = _installed(Path(folder), extras)
            seconds = time.monotonic() - began
            failed = failed or python is None
            if python is None:
                print(f"| {extras or 'core'} | could not be installed | | | | |", flush=True)
                continue
            packages, size = _measure(Path(folder))
            sizes[extras] = size
            base = sizes.get("train" if "," in extras else "")
            more = f"+{size - base:.0f}" if base is not None and extras else ""
            spent = ", ".join(f"{name} {_import(python, name, shim='vision' in extras):.1f}" for name in IMPORTS[extras])
            print(f"| {extras or 'core'} | {packages} | {size:.0f} | {more} | {seconds:.0f} | {spent} |", flush=True)
    return 1 if failed else 0


def _installed(folder: Path, extras: str) -> Path | None:
    """The interpreter of a fresh environment with the core and the extras, or nothing where pip gave up."""
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    what = f"{ROOT}[{extras}]" if extras else str(ROOT)
    command = [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt"), what]
    return python if subprocess.run(command, check=False, capture_output=True).returncode == 0 else None


def _measure(folder: Path) -> tuple[int, float]:
    """How many packages, and the megabytes of their files (compiled modules left out)."""
    site = next((folder / "venv" / "lib").glob("python*/site-packages"))
    files = [path for path in site.rglob("*") if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts]
    return len(list(site.glob("*.dist-info"))), sum(path.stat().st_size for path in files) / 1e6


def _import(python: Path, name: str, *, shim: bool) -> float:
    """Seconds of processor time that an import adds to an empty process: the fastest of a few."""
    said = f"import time; began = time.process_time(); {SHIM if shim else ''}import {name}; print(time.process_time() - began)"
    found = [subprocess.run([str(python), "-c", said], check=True, capture_output=True, text=True).stdout for _ in range(ROUNDS)]
    return min(float(text) for text in found)
