"""Readers of the file formats people keep their data in."""
