"""Helpers for every package that do not depend on networks: errors, files, user code, Pareto sets."""
