"""One thread for every test: sums round the same on every machine, and small nets do not wait for a second core."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
