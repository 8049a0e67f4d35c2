"""Side-by-side measurements. Not installed with the package; run from a checkout."""
