"""The tasks: one module each, found by its name."""
