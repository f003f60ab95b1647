import time

import pytest

from benchmarks.common.part_clock import PartClock, TimeIsUp


def test_parts_are_timed_in_order() -> None:
    clock = PartClock()
    with clock.part("one"):
        time.sleep(0.01)
    with clock.part("two"):
        pass
    assert [part.name for part in clock.parts] == ["one", "two"]
    assert clock.parts[0].seconds >= 0.01 > clock.parts[1].seconds
    assert clock.minutes_left is None
    assert clock.longest("one") == clock.parts[0].seconds > clock.longest("none of this name") == 0


def test_no_part_is_begun_that_does_not_fit() -> None:
    clock = PartClock(minutes=1)
    assert 0.9 < clock.minutes_left <= 1
    with clock.part("short", needs_seconds=30):
        pass
    with pytest.raises(TimeIsUp, match=r"long is not begun: (59|60) s are left"), clock.part("long", 90):
        raise AssertionError("begun")
    assert [part.name for part in clock.parts] == ["short"]


def test_a_part_that_fails_is_not_recorded() -> None:
    clock = PartClock()
    with pytest.raises(ValueError, match="broken"), clock.part("fails"):
        raise ValueError("broken")
    assert clock.parts == []
