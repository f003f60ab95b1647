"""The progress of a search as plain lines."""

from __future__ import annotations

import re

from emomc.callbacks.search.front_lines import FrontLines


def test_lines_are_one_a_generation(finished, replay, capsys):
    replay(finished, [FrontLines()])
    lines = capsys.readouterr().out.splitlines()
    assert lines[3:] == [f"testing the front on the test images: {len(finished.front)} points"]
    for number, line in enumerate(lines[:3], 1):
        assert re.fullmatch(
            rf"generation {number}/4: hypervolume 0\.\d{{5}}( \([+-]0\.\d{{5}}\))?, front \d+, "
            r"best accuracy \d+\.\d\d %, measured \d+, reused \d+, stopped early \d+, \d+ s, \d+ s left",
            line,
        )
