"""An observer that prints the constraints and who meets them."""

from __future__ import annotations

from emomc.compression.levels import label_of
from emomc.search.observer import SearchCallback
from emomc.search.state import Search


class ConstraintNote(SearchCallback):
    """Prints before the search that the network with the fewest bits at the lowest level meets the constraints.

    A search whose constraints it exceeds is refused.
    """

    def on_search_start(self, search: Search) -> None:
        """Print the line, if there are constraints."""
        if not search.bounds:
            return
        bounds = ", ".join(f"{name} <= {bound:.6g}" for name, bound in search.bounds.items())
        cheapest = f"fewest bits at level {label_of(search.space.levels[0])}"
        print(f"Constraints {bounds}: the cheapest network ({cheapest}) meets them.")
