from __future__ import annotations

from benchmarks.peers.tools import users_lines

SCRIPT = '''"""About the tool."""

import tool
from problem import run


def helper(images):
    return images


def compress(problem, bits):
    """Compress.

    With some care.
    """
    # Why it is so.
    images = helper(problem.images)

    return tool.quantize(
        images,
        bits,
    )


def other(problem):
    return tool.other(problem)


def read(problem, network):
    return network
'''


def test_lines_are_those_of_the_function_and_of_what_it_uses() -> None:
    # The import, helper's 2, and of compress: def, images and four of the return.
    assert users_lines(SCRIPT, "compress") == 1 + 2 + 6
    assert users_lines(SCRIPT, "other") == 1 + 2
