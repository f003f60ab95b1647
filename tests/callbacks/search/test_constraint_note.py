"""The line that says who meets the constraints."""

from __future__ import annotations

from emomc.callbacks.search.constraint_note import ConstraintNote


class TestConstraintNote:
    def line(self, library, search, capsys, **settings):
        search(library, [ConstraintNote()], number_generations=1, **settings)
        return capsys.readouterr().out

    def test_says_nothing_without_constraints(self, library, search, capsys):
        assert self.line(library, search, capsys) == ""

    def test_says_who_meets_them(self, library, search, capsys):
        text = self.line(library, search, capsys, size_constraint="50")
        assert text == "Constraints size_kib <= 50: the cheapest network (fewest bits at level 20 %) meets them.\n"
