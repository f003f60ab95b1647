"""Measurements behind the pages of ``docs/results``, each run as ``python -m benchmarks.NAME`` from the root."""
