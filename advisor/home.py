"""Where this user's own facts live: the calibrated machine, measured evidence, the last answer.

`ADVISOR_HOME` names the folder; otherwise it is `edge-advisor` under the user's data folder (XDG Base Directory Specification).
Nothing is created by asking.
"""

from __future__ import annotations

import os
from pathlib import Path

STORE = "evidence.sqlite"  # what was measured here (`advisor.evidence_store`)


def home() -> Path:
    """The folder, whether it exists or not."""
    chosen = os.environ.get("ADVISOR_HOME")
    if chosen:
        return Path(chosen)
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "edge-advisor"
