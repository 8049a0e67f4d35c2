"""The stages: one module each, a frozen settings class with `apply`."""
