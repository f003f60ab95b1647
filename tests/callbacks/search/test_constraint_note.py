"""The line that says whether the constraints can be met."""

from __future__ import annotations

from emomc.callbacks.search.constraint_note import ConstraintNote


class TestConstraintNote:
    def line(self, library, search, capsys, **settings):
        search(library, [ConstraintNote()], number_generations=1, **settings)
        return capsys.readouterr().out

    def test_says_nothing_without_constraints(self, library, search, capsys):
        assert self.line(library, search, capsys) == ""

    def test_says_whether_they_can_be_met(self, copy_of_library, search, capsys):
        text = self.line(copy_of_library("a"), search, capsys, size_constraint="50")
        assert text == "Constraints size_kib <= 50: the cheapest network (fewest bits at level 20 %) meets them.\n"
        text = self.line(copy_of_library("b"), search, capsys, size_constraint="0.01")
        assert "not even the cheapest network" in text
        assert len(text.splitlines()) == 1
