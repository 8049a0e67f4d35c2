"""One thread for every test: sums round the same on every machine, and small nets do not wait for a second core.

A home of their own too: what this user calibrated or measured decides no test.
"""

import os
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["ADVISOR_HOME"] = tempfile.mkdtemp(prefix="advisor-home-")
