"""Declared experiments and the engine that runs them: `python -m experiments`."""
