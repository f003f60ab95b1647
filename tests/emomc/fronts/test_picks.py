"""Picks: their text, the point they choose, the reason, and errors."""

from __future__ import annotations

import copy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emomc.common.errors import UserError
from emomc.common.intervals import loss_bound
from emomc.fronts.pick_rules import DEFAULT_PICK, PickKind, parse_pick
from emomc.fronts.picks import cost_keys, pick_point, standard_picks

SETTINGS = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def small(front, rows, **changes):
    """A front of (validation accuracy, energy, size) rows, and a baseline of 99 %, 1 mJ, 100 KiB."""
    points = []
    for index, (accuracy, energy, size) in enumerate(rows):
        point = copy.deepcopy(front["points"][0])
        point |= {"index": index + 10, "validation_accuracy": accuracy, "energy_mj": energy, "size_kib": size}
        points.append(point)
    base = front["baseline"] | {"validation_accuracy": 0.99, "energy_mj": 1.0, "size_kib": 100.0}
    return front | {"points": points, "baseline": base} | changes


ROWS = [(0.99, 0.9, 50.0), (0.985, 0.3, 20.0), (0.95, 0.1, 12.0), (0.5, 0.05, 11.0)]


class TestParse:
    @pytest.mark.parametrize(
        "text",
        [
            "safe:1",
            "safe:0.5:size_kib",
            "knee",
            "max-accuracy",
            "budget:energy_mj=0.003",
            "budget:energy_mj=10%",
            "budget:size_kib=20,latency_ms=5",
            "budget:cycles=1e+06",
            "within:1",
            "within:0.5:size_kib",
            "aggregate:0.2",
            "index:3",
        ],
    )
    def test_text_and_back(self, text):
        assert str(parse_pick(text)) == text
        assert parse_pick(str(parse_pick(text))) == parse_pick(text)

    @SETTINGS
    @given(st.floats(1e-9, 1e9), st.booleans())
    def test_keeps_the_number_of_a_budget(self, value, relative):
        pick = parse_pick(f"budget:energy_mj={value!r}{'%' if relative else ''}")
        assert pick.kind is PickKind.BUDGET
        assert (pick.limits[0].value, pick.limits[0].relative) == (value, relative)

    def test_aggregate_weighs_reward_and_penalty_equally_unless_told(self):
        assert parse_pick("aggregate") == parse_pick("aggregate:1")

    def test_safe_gives_up_one_point_unless_told(self):
        assert parse_pick(DEFAULT_PICK) == parse_pick("safe:1")

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "nee",
            "safe:",
            "safe:x",
            "safe:101",
            "safe:1:watts",
            "knee:3",
            "budget",
            "budget:",
            "budget:energy=3",
            "budget:energy_mj",
            "budget:energy_mj=",
            "budget:energy_mj=-1",
            "budget:energy_mj=nan",
            "budget:energy_mj=1,",
            "within:",
            "within:x",
            "within:-1",
            "within:1:watts",
            "aggregate:0",
            "aggregate:inf",
            "index:",
            "index:-1",
            "index:1.5",
        ],
    )
    def test_refuses_in_one_line(self, text):
        with pytest.raises(UserError, match="expected") as caught:
            parse_pick(text)
        assert "\n" not in str(caught.value)


class TestChoice:
    @pytest.mark.parametrize(
        ("text", "index"),
        [
            ("max-accuracy", 10),
            ("budget:energy_mj=0.3", 11),
            ("budget:energy_mj=0.29", 12),
            ("budget:energy_mj=10%", 12),
            ("budget:energy_mj=1,size_kib=11.5", 13),
            ("within:0", 10),
            ("within:0.5", 11),
            ("within:4", 12),
            ("within:100:size_kib", 13),
            # Error and share of the uncompressed energy add up to 0.91, 0.315, 0.15, 0.55.
            ("knee", 12),
            ("index:13", 13),
            # (a - (1 - a)) / energy: 1.09, 3.23, 9.0, 0.0.
            ("aggregate", 12),
            # (5 a - (1 - a)) / energy: 5.5, 16.4, 47.0, 40.0.
            ("aggregate:5", 12),
            # (100 a - (1 - a)) / energy: .., 948.5, 990.0.
            ("aggregate:100", 13),
        ],
    )
    def test_by_hand(self, front, text, index):
        made = small(front, ROWS)
        picked = pick_point(text, made)
        assert picked.index == index
        assert made["points"][picked.position]["index"] == index
        assert picked.reason.startswith(f"Point {index} ")
        assert picked.reason.endswith(".")

    def test_the_knee_does_not_move_with_a_useless_end(self, front):
        assert pick_point("knee", small(front, [*ROWS, (0.1, 0.049, 10.0)])).index == 12

    def test_the_knee_without_uncompressed_costs_uses_the_ends(self, front):
        made = small(front, ROWS)
        made["baseline"]["energy_mj"] = 0
        # Scaled by the ends: 1, 0.30, 0.14, 1.
        assert pick_point("knee", made).index == 12
        assert "bends most" in pick_point("knee", made).reason

    def test_equal_accuracy_goes_to_the_cheaper(self, front):
        made = small(front, [(0.9, 0.5, 1.0), (0.9, 0.4, 2.0)])
        assert pick_point("max-accuracy", made).index == 11
        assert pick_point("budget:size_kib=3", made).index == 11

    def test_size_searches_use_the_size(self, front):
        made = small(front, [(0.99, 0.1, 50.0), (0.98, 0.2, 20.0)], objectives=["accuracy", "size"])
        assert cost_keys(made) == ["size_kib"]
        assert pick_point("within:2", made).index == 11
        assert "KiB" in pick_point("knee", made).reason

    def test_latency_is_cycles_where_there_is_no_clock(self, front):
        made = small(front, ROWS, objectives=["accuracy", "latency"])
        for point in made["points"]:
            point["cycles"] = 1000.0 * point["energy_mj"]
        assert cost_keys(made) == ["cycles"]
        for point in made["points"]:
            point["latency_ms"] = point["energy_mj"]
        assert cost_keys(made) == ["latency_ms"]

    @SETTINGS
    @given(budget=st.floats(0.0, 0.02, exclude_min=True))
    def test_a_budget_is_kept_by_the_best_that_keeps_it(self, front, budget):
        meeting = [point for point in front["points"] if point["energy_mj"] <= budget]
        if meeting:
            chosen = front["points"][pick_point(f"budget:energy_mj={budget!r}", front).position]
            assert chosen["energy_mj"] <= budget
            assert chosen["validation_accuracy"] == max(point["validation_accuracy"] for point in meeting)
        else:
            cheapest = min(front["points"], key=lambda point: point["energy_mj"])
            with pytest.raises(UserError, match=f"nearest is point {cheapest['index']} "):
                pick_point(f"budget:energy_mj={budget!r}", front)

    def test_never_looks_at_the_test_set(self, front):
        before = [picked.index for picked in standard_picks(front)]
        for point in front["points"]:
            point["test_accuracy"] = 1 - point["test_accuracy"]
        assert [picked.index for picked in standard_picks(front)] == before


class TestSafe:
    """Counts of right answers of 1,000 images decide; the uncompressed network has 990 of them."""

    def rows(self, front, images=1000, **changes):
        made = small(front, [(0.991, 0.9, 50.0), (0.988, 0.3, 20.0), (0.984, 0.2, 12.0), (0.5, 0.05, 11.0)], **changes)
        made["baseline"] |= {"validation_images": images, "validation_correct": None}
        return made

    def test_takes_the_cheapest_whose_bound_is_small_enough(self, front):
        made = self.rows(front)
        bounds = [100 * loss_bound(990, right, 1000, compared=4) for right in (991, 988, 984, 500)]
        # Lost: -0.1, 0.2, 0.6 and 49 points, each with a margin of 0.7 to 0.9 points.
        assert [round(bound, 2) for bound in bounds[:3]] == [0.67, 1.03, 1.49]
        for points, index in ((0.7, 10), (1.04, 11), (1.5, 12), (60, 13)):
            assert pick_point(f"safe:{points}", made).index == index
        assert pick_point("safe", made).index == 10

    def test_more_images_allow_what_was_chance_before(self, front):
        assert pick_point("within:1", self.rows(front)).index == 12
        assert [pick_point("safe", self.rows(front, images)).index for images in (2_000, 10_000)] == [11, 12]

    def test_says_so_where_none_is_safe(self, front):
        picked = pick_point("safe", self.rows(front, 200))
        assert picked.index == pick_point("max-accuracy", front=self.rows(front)).index
        assert (picked.met, pick_point("safe", self.rows(front)).met) == (False, True)
        least = 100 * loss_bound(198, 198, 200, compared=4)
        assert picked.reason.startswith(
            "Point 10 is the most accurate network; none is sure to lose at most 1 point of accuracy, since by 200 "
            f"validation images (2 a point), each may lose {least:.3g} points or more: 99.10 % validation accuracy"
        )

    def test_says_so_where_the_images_are_unknown(self, front):
        assert "does not say on how many images" in pick_point("safe", self.rows(front, None)).reason

    def test_the_first_cost_of_the_objectives_decides_unless_another_is_named(self, front):
        made = small(front, [(0.99, 0.3, 20.0), (0.99, 0.2, 30.0)], objectives=["accuracy", "energy", "size"])
        made["baseline"]["validation_images"] = 10_000
        assert pick_point("safe", made).index == 11
        assert pick_point("safe", made | {"objectives": ["accuracy", "size", "energy"]}).index == 10
        assert pick_point("safe:1:size_kib", made).index == 10

    def test_without_a_cost_the_most_accurate(self, front):
        made = self.rows(front, objectives=["accuracy"])
        assert pick_point("safe:60", made).index == 10

    @SETTINGS
    @given(st.lists(st.tuples(st.integers(0, 500), st.floats(0.01, 1)), min_size=1, max_size=12), st.floats(0, 20))
    def test_never_takes_more_than_within_does(self, front, points, allowed):
        made = small(front, [(correct / 500, energy, 1.0) for correct, energy in points])
        made["baseline"] |= {"validation_images": 500, "validation_accuracy": 495 / 500}
        chosen = made["points"][pick_point(f"safe:{allowed!r}", made).position]
        if 495 - 500 * chosen["validation_accuracy"] <= 5 * allowed:
            cheapest = made["points"][pick_point(f"within:{allowed!r}", made).position]
            assert chosen["energy_mj"] >= cheapest["energy_mj"]
        else:
            assert chosen["validation_accuracy"] == max(point["validation_accuracy"] for point in made["points"])


class TestReason:
    def test_says_both_accuracies_and_the_cost_against_uncompressed(self, front):
        made = small(front, ROWS)
        made["points"][1]["test_accuracy"] = 0.9712
        reason = pick_point("budget:energy_mj=0.3", made).reason
        assert reason == (
            "Point 11 is the most accurate network that needs at most 0.3 mJ: 98.50 % validation accuracy "
            "(test 97.12 %) for 0.3 mJ (3.33 times less than uncompressed)."
        )

    def test_relative_budget_names_the_share(self, front):
        reason = pick_point("budget:energy_mj=10%", small(front, ROWS)).reason
        assert "at most 0.1 mJ (10 % of the uncompressed network's)" in reason

    def test_aggregate_compares_with_uncompressed(self, front):
        # Uncompressed: (0.99 - 0.01) / 1 = 0.98; the point: 0.9 / 0.1 = 9.
        assert "9.18 times that of the uncompressed network" in pick_point("aggregate", small(front, ROWS)).reason

    def test_without_test_accuracy_the_reason_omits_it(self, front):
        made = small(front, ROWS)
        for point in made["points"]:
            point["test_accuracy"] = None
        assert "test" not in pick_point("knee", made).reason

    def test_unit_of_relative_hardware(self, front):
        made = small(front, ROWS, energy_unit="16-bit MACs")
        assert "0.3 16-bit MACs" in pick_point("index:11", made).reason


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("budget:energy_mj=0.01", "nearest is point 13 with 0.05 mJ and 50.00 % validation accuracy"),
            ("budget:energy_mj=0.04,size_kib=10", "nearest is point 13 with 0.05 mJ and 11 KiB"),
            ("budget:energy_mj=1e-323%", "nearest is point 13"),
            ("budget:latency_ms=1", "latency_ms in every point"),
            ("budget:latency_ms=10%", "uncompressed network's latency_ms"),
            ("index:3", "10 to 13"),
            ("aggregate:0.001", "ratio of 0.001"),
        ],
    )
    def test_names_what_is_nearest_or_missing(self, front, text, words):
        with pytest.raises(UserError, match=words) as caught:
            pick_point(text, small(front, ROWS))
        assert "\n" not in str(caught.value)

    def test_within_names_the_most_accurate(self, front):
        made = small(front, ROWS[1:])
        with pytest.raises(UserError, match=r"nearest is point 10 with 98\.50 %"):
            pick_point("within:0.1", made)

    def test_empty_front(self, front):
        with pytest.raises(UserError, match="empty"):
            pick_point("knee", small(front, []))

    def test_no_cost_to_minimise(self, front):
        made = small(front, ROWS, objectives=["accuracy"])
        assert pick_point("max-accuracy", made).index == 10
        with pytest.raises(UserError, match="cost"):
            pick_point("within:1", made)
        with pytest.raises(UserError, match="cost"):
            pick_point("aggregate", made)

    def test_free_points_cannot_be_aggregated(self, front):
        with pytest.raises(UserError, match="above 0"):
            pick_point("aggregate", small(front, [(0.9, 0.0, 1.0)]))

    def test_unknown_objective(self, front):
        with pytest.raises(UserError, match="objective beauty"):
            pick_point("knee", small(front, ROWS, objectives=["accuracy", "beauty"]))


def test_standard_picks_answer_the_usual_questions(front):
    picks = standard_picks(front)
    assert [str(picked.pick) for picked in picks] == [
        "safe:1",
        "max-accuracy",
        "within:1",
        "knee",
        "budget:energy_mj=10%",
        "aggregate:1",
    ]
    assert len({picked.reason for picked in picks}) == len(picks)


def test_standard_picks_leave_out_what_no_point_meets(front):
    front["baseline"]["energy_mj"] = 1e-6
    assert "budget:energy_mj=10%" not in [str(picked.pick) for picked in standard_picks(front)]
