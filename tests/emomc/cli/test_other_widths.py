"""What a search simulates and what its hardware charges for are the same widths, or a line says so."""

import pytest

QUICK = ("--population_size", "2", "--number_generations", "1", "--max_bits", "3", "--rounding", "nearest", "--quiet")
CASES = {
    "the hardware is narrower": (("--hardware", "accelergy_eyeriss_32nm"), "charged for the 8 bits of accelergy"),
    "the uncompressed network is not rounded": (
        ("--activation_bits", "8"),
        "uncompressed network are charged for 8 bits",
    ),
    "searched by layer": (
        ("--activation_bits", "8", "4", "--hardware", "accelergy_eyeriss_32nm"),
        "The bits of each layer's activations are searched among 4, 8; those of the uncompressed network are charged",
    ),
    "the same": ((), None),
}


@pytest.mark.parametrize("case", CASES)
def test_a_line_says_which_widths_differ(run, library, case):
    flags, words = CASES[case]
    ran = run("search", "--library", library.path, *flags, *QUICK)
    assert ran.status == 0, ran.err
    lines = [line for line in (ran.out + ran.err).splitlines() if "ctivations" in line]
    assert len(lines) == (words is not None)
    assert words is None or words in lines[0]
