"""Measurements of speed and quality, each a module with a command: see README.md."""
