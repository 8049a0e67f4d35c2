"""The architectures: one family a module."""
