"""The reader that travels inside every bundle. `reader.py` must stand alone: it imports nothing of ours."""
