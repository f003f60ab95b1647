"""The console scripts: each imports its command, which may take seconds, and runs it."""

from __future__ import annotations

import importlib

from emomc.cli.interrupted_start import end_at_interrupt


def pretrain() -> int:
    """Run ``emomc-pretrain``; return its exit status."""
    return _run("pretrain")


def search() -> int:
    """Run ``emomc-search``; return its exit status."""
    return _run("search")


def export() -> int:
    """Run ``emomc-export``; return its exit status."""
    return _run("export")


def hardware() -> int:
    """Run ``emomc-hardware``; return its exit status."""
    return _run("hardware")


def measure() -> int:
    """Run ``emomc-measure``; return its exit status."""
    return _run("measure")


def _run(name: str) -> int:
    end_at_interrupt(f"emomc-{name}")
    status: int = importlib.import_module(f"emomc.cli.{name}").main()
    return status
