"""What to build: a recommendation, the module it names, and the task it serves."""
