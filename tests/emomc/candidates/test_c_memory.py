"""The memory of candidates in C."""

import json

import pytest

from emomc.callbacks.search.front_writer import FrontWriter
from emomc.common.errors import UserError
from emomc.fronts.front_file import read_front


def test_a_front_without_these_entries_is_read(library, search):
    found = search(library, [FrontWriter()], number_generations=1)
    front = json.loads(found.files.front.read_text())
    for entry in (front["baseline"], *front["points"]):
        for name in ("c_arithmetic", "ram_bytes", "flash_bytes"):
            del entry[name]
    found.files.front.write_text(json.dumps(front))
    assert read_front(found.folder)["points"]


def test_a_constraint_that_can_be_met_is(library, search):
    front = search(library, [FrontWriter()], ram_constraint="60%", activation_bits=8, number_generations=2).front
    bounded = search(library, ram_constraint="100", activation_bits=8, number_generations=2, name="kib")
    assert front
    assert not any(candidate.violation for candidate in front)
    assert bounded.bounds == {"ram_bytes": 102400.0}
    assert [candidate.genotype for candidate in bounded.front] == [candidate.genotype for candidate in front]


def test_a_network_that_is_not_written_in_c_has_no_memory(library, search, monkeypatch):
    def refuse(*_):
        raise UserError("expected operations that can be written in C, found aten.sort")

    monkeypatch.setattr("emomc.candidates.c_memory.lower_folded", refuse)
    found = search(library, [FrontWriter()], number_generations=1)
    point = read_front(found.folder)["points"][0]
    assert (point["c_arithmetic"], point["ram_bytes"], point["flash_bytes"]) == (None, None, None)
    with pytest.raises(UserError, match=r"found aten\.sort"):
        search(library, ram_constraint="50%", name="bounded")
