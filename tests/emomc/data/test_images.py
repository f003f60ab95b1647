"""Images in files."""

from __future__ import annotations

import threading
import time

from emomc.data.images import in_threads


def test_results_are_in_the_order_of_the_items_in_one_thread_and_in_several():
    items = list(range(1000))
    assert in_threads(lambda item: item * item, items) == [item * item for item in items]
    few = items[:3]
    assert in_threads(lambda item: item + 1, few) == [1, 2, 3]
    assert in_threads(str, []) == []


def test_slow_items_are_shared_by_threads_and_fast_ones_are_not():
    def of(seconds):
        def work(item):
            time.sleep(seconds)
            return threading.get_ident()

        return {*in_threads(work, range(600))}

    assert of(0.0) == {threading.get_ident()}
    assert len(of(0.002)) > 1
