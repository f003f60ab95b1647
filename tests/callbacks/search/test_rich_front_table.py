"""The live table fits the terminal, shows correct values and is removed at the end."""

from __future__ import annotations

import copy
import dataclasses
import io
import re

import pytest
from rich.console import Console

from emomc.callbacks.search.rich_front_table import RichFrontTable
from emomc.candidates.genotype import Genotype
from emomc.common.intervals import wilson_interval
from emomc.fronts.report.terminal import FrontTable
from emomc.search.state import Phase


def console(width=80, height=24):
    return Console(width=width, height=height, file=io.StringIO(), force_terminal=True, legacy_windows=False)


def render(thing, terminal):
    plain = Console(width=terminal.width, file=io.StringIO(), color_system=None)
    plain.print(thing)
    return plain.file.getvalue().splitlines()


def crowded(search, points, layers=5):
    """The same search with a front of a given number of points."""
    search = copy.copy(search)
    template = search.front[0]
    search.candidates = [
        dataclasses.replace(
            template,
            index=1000 + index,
            genotype=Genotype(100, (12,) * layers),
            costs={**template.costs, "energy_mj": template.costs["energy_mj"] * (1 + index / 10)},
            evaluation=dataclasses.replace(template.evaluation, correct=100 + index),
        )
        for index in range(points)
    ]
    assert len(search.front) == points
    return search


@pytest.mark.parametrize("points", [1, 5, 60])
@pytest.mark.parametrize("height", [15, 24, 50])
def test_view_fits_80_columns_and_the_height(finished, points, height):
    search = crowded(finished, points)
    table = RichFrontTable(console(height=height))
    table.on_search_start(search)
    search.generation = 3
    table.on_generation_end(search)
    lines = render(table.view(search), table.console)
    table.on_search_teardown(search)
    assert len(lines) <= height
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "…" not in text
    assert f"front: {points} point" in text
    # Each point is on one line, the best and the cheapest among them.
    shown = [line for line in lines if line.split() and any(str(1000 + i) in line.split() for i in range(points))]
    assert len(shown) == points or ("shown" in text and len(shown) >= 3)
    assert any("1000" in line for line in shown)
    assert any(str(999 + points) in line for line in shown)


@pytest.mark.parametrize("layers", [1, 7, 8, 54])
def test_networks_of_many_layers_fit_too(finished, layers):
    lines = render(FrontTable(crowded(finished, 3, layers)), console())
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    assert sum("100" in line and "12" in line for line in lines) >= 3


def test_bits_of_inputs_stand_beside_those_of_weights_where_they_are_searched(finished):
    search = crowded(finished, 3, 5)
    search.space = dataclasses.replace(search.space, activation_bits=(4, 8))
    for candidate, inputs in zip(search.front, [(4, 8, 4, 4, 8), (8,) * 5, (4,) * 5], strict=True):
        candidate.genotype = dataclasses.replace(candidate.genotype, activation_bits=inputs)
    wide = render(FrontTable(search), console(width=160))
    assert "inputs by layer" in wide[1]
    assert wide[3].split()[-10:] == ["12"] * 5 + ["4", "8", "4", "4", "8"]
    for width in (50, 60, 80, 100):
        lines = render(FrontTable(search), console(width=width))
        assert max(map(len, lines)) <= width
        assert "…" not in "".join(lines)
    assert "inputs" not in "".join(render(FrontTable(finished), console(width=160)))


def test_counts_are_those_of_the_search(finished):
    table = RichFrontTable(console())
    table.on_search_start(finished)
    text = "\n".join(render(table.view(finished), table.console))
    table.on_search_teardown(finished)
    assert f"measured {finished.tally.measured}" in text
    assert f"stopped early {finished.rejected}" in text


def test_the_whole_front_is_in_the_final_table(finished):
    lines = render(FrontTable(finished), console(width=100))
    for point in finished.front:
        row = next(line for line in lines if line.replace("│", " ").split()[:1] == [str(point.index)])
        assert f"{100 * point.accuracy:.2f}" in row
        assert f"{100 * point.test.accuracy:.2f}" in row
        assert str(point.genotype.level) in row


def test_live_display_ends_and_the_cursor_comes_back(finished, replay):
    table = RichFrontTable(console())
    replay(finished, [table])
    written = table.console.file.getvalue()
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") >= 1
    # Where rich keeps its displays depends on its version.
    assert not any(getattr(table.console, name, None) for name in ("_live_stack", "_live"))


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_columns_follow_the_width(finished, width):
    lines = render(FrontTable(finished), console(width=width))
    assert max(map(len, lines)) <= width
    header = lines[1].split()
    assert {"point", "val.", "mJ", "test", "bits"} <= set(header) or width < 60
    # An interval beside each accuracy, and what was not traded, where there is room.
    assert (header.count("interval") == 2) == (width >= 80)
    assert ("KiB" in header) == (width >= 100)


def test_the_uncompressed_network_stands_first_and_times_less_are_against_it(finished):
    lines = render(FrontTable(finished), console(width=160))
    header, dense, *points = (re.split(r"\s{2,}", line.strip()) for line in lines[1:])
    assert dense[0] == "dense"
    assert dense[1] == f"{100 * finished.library.dense_accuracy:.2f}"
    energy = header.index("mJ")
    assert float(dense[energy]) == pytest.approx(finished.uncompressed["energy_mj"], rel=1e-3)
    for row, candidate in zip(points, finished.front, strict=True):
        times = finished.uncompressed["energy_mj"] / candidate.costs["energy_mj"]
        assert row[energy + 1] == f"{times:.1f}x"
        low, high = wilson_interval(candidate.test.correct, candidate.test.images)
        assert f"{100 * low:.1f}-{100 * high:.1f}" in row


def test_28_layers_are_summed_up_in_80_columns_and_listed_where_there_is_room(finished):
    search = crowded(finished, 4)
    bits = tuple(2 + layer % 9 for layer in range(28))
    for candidate in search.candidates:
        candidate.genotype = dataclasses.replace(candidate.genotype, bits=bits)
    narrow = render(FrontTable(search), console(width=80))
    assert max(map(len, narrow)) <= 80
    assert f"2-10, mean {sum(bits) / 28:.1f}" in narrow[3]
    wide = render(FrontTable(search), console(width=200))
    assert " ".join(wide[3].split()).endswith(" ".join(map(str, bits)))


def test_counts_and_time_move_between_candidates(finished):
    history, finished.history, finished.phase = finished.history, [], Phase.SEARCHING
    table = RichFrontTable(console())
    table.on_search_start(finished)
    assert "time left known after the first" in "\n".join(render(table.view(finished), table.console))
    table.on_candidate_end(finished, finished.candidates[0])
    assert "s per candidate" in "\n".join(render(table.view(finished), table.console))
    finished.history = history[:1]
    table.on_generation_end(finished)
    assert "0:00 left" in "\n".join(render(table.view(finished), table.console))
    table.on_search_teardown(finished)


def test_the_view_says_what_the_search_does_after_the_last_generation(finished):
    table = RichFrontTable(console())
    table.on_search_start(finished)
    finished.phase = Phase.FINETUNING
    assert "fine-tuning: 0 points done" in "\n".join(render(table.view(finished), table.console))
    finished.phase = Phase.TESTING
    assert "testing the front on the test images" in "\n".join(render(table.view(finished), table.console))
    table.on_search_teardown(finished)
