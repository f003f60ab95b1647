"""Pages of benchmarks."""

from __future__ import annotations

from benchmarks.common.page import put_between_marks


def test_what_stands_outside_of_the_marks_stays():
    text = "# Title\n<!-- a -->\nold\n<!-- end of a -->\n<!-- b -->\nrest\n<!-- end of b -->\n"
    assert put_between_marks(text, "a", "new\n") == text.replace("old", "new")
    assert put_between_marks(text, "b", "") == text.replace("rest\n", "")
