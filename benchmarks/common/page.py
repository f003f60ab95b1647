"""The page that a benchmark writes, and the words on what made it."""

from __future__ import annotations

import datetime
import platform
from pathlib import Path

import torch

from benchmarks.common.command_line import command
from emomc.common.files import write_text


def made_by() -> str:
    """Return the words on the command that runs and the date."""
    return f"Made by `{command()}` on {datetime.date.today()}"


def machine(accelerator: str = "cpu") -> str:
    """Return the kind of processor that an accelerator of Lightning's means here, and PyTorch's threads beside it."""
    threads = torch.get_num_threads()
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    kind = torch.cuda.get_device_name() if on_gpu else platform.machine()
    return f"{kind}, {threads} thread{'' if threads == 1 else 's'}"


def publish(page: str, output: Path | None) -> None:
    """Write a page to a file, if one is given, and print it."""
    if output is not None:
        write_text(output, page)
    print(page)


def put_between_marks(text: str, mark: str, made: str) -> str:
    """Replace what stands between the two marks ``<!-- MARK -->`` and ``<!-- end of MARK -->`` of a page.

    Raises:
        ValueError: the page lacks a mark.
    """
    begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->\n"
    before, has_begin, rest = text.partition(begin)
    _, has_end, after = rest.partition(end)
    if not has_begin or not has_end:
        raise ValueError(f"expected a page with the lines {begin!r} and {end!r}, found none")
    return before + begin + made + end + after
