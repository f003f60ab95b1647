"""The log: what a killed process leaves, what other searches measured, and what it refuses."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emomc.candidates.evaluation import Evaluation
from emomc.candidates.evaluation_log import EvaluationLog
from emomc.candidates.genotype import Genotype
from emomc.common.errors import UserError, UserNote
from emomc.common.run_folder import LOG_FILE

CONDITIONS = {"images": "abc", "batch_size": 64, "quantizer": {"method": "mse", "per_channel": False}}
VERSIONS = {"torch": "2.0", "pymoo": "0.6"}
ENTRIES = [
    (Genotype(20, (2, 3, 4, 5, 6)), Evaluation(50, 64, 288)),
    (Genotype(80, (2, 2, 2, 2, 2)), Evaluation(200, 288, 288)),
    (Genotype(20, (2, 3, 4, 5, 6)), Evaluation(170, 288, 288)),
    (Genotype(100, (12, 12, 12, 12, 12)), Evaluation(280, 288, 288)),
]


@pytest.fixture
def opened(shared_library):
    def make(path, *, conditions=CONDITIONS, versions=VERSIONS, **options):
        return EvaluationLog(path, shared_library, conditions, versions, images=288, **options)

    return make


def fill(log, entries=ENTRIES):
    with log:
        for genotype, evaluation in entries:
            log.append(genotype, evaluation)


def known(log):
    return {genotype: log.get(genotype) for genotype, _ in ENTRIES}


class TestFile:
    def test_what_is_appended_is_known_at_once_and_later(self, opened, tmp_path):
        path = tmp_path / "search" / LOG_FILE
        with opened(path) as log:
            assert log.get(ENTRIES[0][0]) is None
            for genotype, evaluation in ENTRIES:
                log.append(genotype, evaluation)
                assert log.get(genotype) == evaluation
                # On disk when append returns, not when the log is closed.
                assert path.read_bytes().endswith(b"\n")
                assert json.loads(path.read_bytes().splitlines()[-1])["seen"] == evaluation.seen
            assert len(log) == 3
        # The last line of a genotype counts.
        with opened(path) as again:
            assert known(again) == dict(ENTRIES)

    def test_lines_name_the_level_by_its_weights_and_bits_by_layer(self, opened, tmp_path, shared_library):
        fill(opened(tmp_path / LOG_FILE))
        header, first, *_ = (json.loads(line) for line in (tmp_path / LOG_FILE).read_text().splitlines())
        assert header == {"conditions": CONDITIONS, "versions": VERSIONS}
        assert first["weights"] == shared_library.record(20).sha256[:16]
        assert first["bits"] == {"conv1": 2, "conv2": 3, **dict(zip(list(first["bits"])[2:], (4, 5, 6), strict=True))}

    def test_a_process_that_does_not_keep_the_file_leaves_it_alone(self, opened, tmp_path):
        fill(opened(tmp_path / "none" / LOG_FILE, write=False))
        assert not (tmp_path / "none").exists()
        fill(opened(tmp_path / LOG_FILE), ENTRIES[:1])
        before = (tmp_path / LOG_FILE).read_bytes()
        with opened(tmp_path / LOG_FILE, write=False) as log:
            log.append(*ENTRIES[1])
            assert log.get(ENTRIES[1][0]) == ENTRIES[1][1]
        assert (tmp_path / LOG_FILE).read_bytes() == before


class TestBitsOfInputs:
    """They are part of a genotype where they are searched, and of no line where they are not."""

    BY_LAYER = (
        (Genotype(20, (2, 3, 4, 5, 6), activation_bits=(4, 8, 4, 16, 8)), Evaluation(50, 64, 288)),
        (Genotype(20, (2, 3, 4, 5, 6), activation_bits=(4, 8, 4, 16, 4)), Evaluation(51, 64, 288)),
    )

    def test_they_are_named_by_layer_and_read_again(self, opened, tmp_path):
        fill(opened(tmp_path / LOG_FILE), self.BY_LAYER)
        with opened(tmp_path / LOG_FILE) as again:
            assert len(again) == 2
            assert {genotype: again.get(genotype) for genotype, _ in self.BY_LAYER} == dict(self.BY_LAYER)
        line = json.loads((tmp_path / LOG_FILE).read_text().splitlines()[1])
        assert list(line["activation_bits"]) == list(line["bits"])
        assert list(line["activation_bits"].values()) == [4, 8, 4, 16, 8]

    def test_without_them_lines_are_as_before(self, opened, tmp_path):
        fill(opened(tmp_path / LOG_FILE))
        for line in (tmp_path / LOG_FILE).read_text().splitlines()[1:]:
            assert list(json.loads(line)) == ["level", "weights", "bits", "correct", "seen", "images"]

    def test_lines_for_other_layers_are_left_aside(self, opened, tmp_path):
        fill(opened(tmp_path / LOG_FILE), self.BY_LAYER)
        text = (tmp_path / LOG_FILE).read_text().replace('"activation_bits":{"conv1"', '"activation_bits":{"other"', 1)
        (tmp_path / LOG_FILE).write_text(text)
        with opened(tmp_path / LOG_FILE) as again:
            assert len(again) == 1


class TestTorn:
    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_cut_anywhere_it_keeps_the_whole_lines_and_goes_on(self, data, tmp_path_factory, shared_library):
        folder = tmp_path_factory.mktemp("log")
        path = folder / LOG_FILE
        fill(EvaluationLog(path, shared_library, CONDITIONS, VERSIONS, images=288))
        content = path.read_bytes()
        cut = data.draw(st.integers(0, len(content)))
        path.write_bytes(content[:cut])
        whole = content[:cut].count(b"\n")
        expected = dict(ENTRIES[: max(0, whole - 1)])
        with EvaluationLog(path, shared_library, CONDITIONS, VERSIONS, images=288) as log:
            assert {genotype: log.get(genotype) for genotype in expected} == expected
            assert len(log) == len(expected)
            for genotype, evaluation in ENTRIES[max(0, whole - 1) :]:
                log.append(genotype, evaluation)
        assert path.read_bytes() == content

    @pytest.mark.parametrize("tail", [b"{", b'{"level":20,"wei', b"\x00\xff\xfe", b"null"])
    def test_a_torn_tail_of_any_bytes_is_dropped(self, opened, tmp_path, tail):
        path = tmp_path / LOG_FILE
        fill(opened(path))
        content = path.read_bytes()
        path.write_bytes(content + tail)
        with opened(path) as log:
            assert known(log) == dict(ENTRIES)
        assert path.read_bytes() == content


class TestOthers:
    def test_their_answers_are_known(self, opened, tmp_path):
        fill(opened(tmp_path / "a" / LOG_FILE))
        with opened(tmp_path / "b" / LOG_FILE, others=[tmp_path / "a" / LOG_FILE, tmp_path / "b" / LOG_FILE]) as log:
            assert known(log) == dict(ENTRIES)
        # Evaluations of other logs are not copied.
        assert len((tmp_path / "b" / LOG_FILE).read_bytes().splitlines()) == 1

    def test_a_log_among_the_others_is_not_its_own_other(self, opened, tmp_path):
        path = tmp_path / "a" / LOG_FILE
        fill(opened(path))
        path.write_bytes(path.read_bytes().replace(b'"seen"', b'"saw"'))
        # A damaged log of another search is skipped.
        with pytest.raises(UserError, match="line 2 is damaged"):
            opened(path, others=[path])

    @pytest.mark.parametrize(
        "change",
        [
            {"conditions": {**CONDITIONS, "images": "other"}},
            {"conditions": {**CONDITIONS, "quantizer": {"method": "absmax", "per_channel": False}}},
            {"versions": {**VERSIONS, "torch": "2.1"}},
        ],
    )
    def test_other_conditions_or_versions_are_passed_over(self, opened, tmp_path, change):
        fill(opened(tmp_path / "a" / LOG_FILE, **change))
        with opened(tmp_path / "b" / LOG_FILE, others=[tmp_path / "a" / LOG_FILE]) as log:
            assert len(log) == 0

    def test_other_weights_at_the_same_level_are_passed_over(self, opened, tmp_path):
        fill(opened(tmp_path / "a" / LOG_FILE))
        path = tmp_path / "a" / LOG_FILE
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines[1:]:
            if line["level"] == 20:
                line["weights"] = "0" * 16
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        with opened(tmp_path / "b" / LOG_FILE, others=[path]) as log:
            assert log.get(ENTRIES[2][0]) is None
            assert log.get(ENTRIES[1][0]) == ENTRIES[1][1]

    def test_a_log_that_has_only_begun(self, opened, tmp_path):
        (tmp_path / "a").mkdir()
        for content in (b"", b'{"conditions"'):
            (tmp_path / "a" / LOG_FILE).write_bytes(content)
            with opened(
                tmp_path / "b" / LOG_FILE, others=[tmp_path / "a" / LOG_FILE, tmp_path / "gone" / LOG_FILE]
            ) as log:
                assert len(log) == 0

    def test_the_own_log_has_the_last_word(self, opened, tmp_path):
        fill(opened(tmp_path / "a" / LOG_FILE), ENTRIES[:1])
        fill(opened(tmp_path / "b" / LOG_FILE), ENTRIES[2:3])
        with opened(tmp_path / "b" / LOG_FILE, others=[tmp_path / "a" / LOG_FILE]) as log:
            assert log.get(ENTRIES[0][0]) == ENTRIES[2][1]

    def test_a_whole_evaluation_is_not_forgotten_for_a_part_of_another_log(self, opened, tmp_path):
        fill(opened(tmp_path / "a" / LOG_FILE), ENTRIES[2:3])
        fill(opened(tmp_path / "b" / LOG_FILE), ENTRIES[:1])
        for others in (["a", "b"], ["b", "a"]):
            with opened(tmp_path / "c" / LOG_FILE, others=[tmp_path / name / LOG_FILE for name in others]) as log:
                assert log.get(ENTRIES[0][0]) == ENTRIES[2][1]

    def test_of_two_that_saw_as_many_images_the_own_and_then_the_last_counts(self, opened, tmp_path):
        genotype, whole = ENTRIES[2]
        another, last = (Evaluation(whole.correct + more, whole.seen, whole.images) for more in (1, 2))
        fill(opened(tmp_path / "a" / LOG_FILE), [(genotype, another), (genotype, last)])
        with opened(tmp_path / "b" / LOG_FILE, others=[tmp_path / "a" / LOG_FILE]) as log:
            assert log.get(genotype) == last
        fill(opened(tmp_path / "c" / LOG_FILE), [(genotype, whole)])
        with opened(tmp_path / "c" / LOG_FILE, others=[tmp_path / "a" / LOG_FILE]) as log:
            assert log.get(genotype) == whole


class TestRefusals:
    @pytest.mark.parametrize("line", [b"[]", b"{", b'{"conditions":1,"versions":{}}', b'{"versions":{}}'])
    def test_a_damaged_first_line(self, opened, tmp_path, line):
        path = tmp_path / "one" / "after" / "another" / LOG_FILE
        fill(opened(path))
        path.write_bytes(line + b"\n")
        with pytest.raises(UserError, match=r"evaluations in .*another.*, found that line 1 is damaged") as error:
            opened(path)
        assert str(error.value).count("--overwrite") == 1
        if line == b"{":
            with pytest.warns(UserNote, match="line 1 is damaged"), opened(tmp_path / LOG_FILE, others=[path]) as log:
                assert len(log) == 0

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"conditions": {**CONDITIONS, "batch_size": 32}}, "with batch_size 32 in .*, found 64"),
            ({"conditions": {**CONDITIONS, "new": 1}}, "with new 1 in .*, found None"),
            ({"conditions": {"images": "abc", "batch_size": 64}}, "with quantizer None in .*, found {'method'"),
            ({"versions": {**VERSIONS, "torch": "2.1"}}, r"with torch '2\.1' in .*, found '2\.0'"),
        ],
    )
    def test_a_difference_is_named_and_the_log_untouched(self, opened, tmp_path, change, words):
        path = tmp_path / LOG_FILE
        fill(opened(path))
        before = path.read_bytes()
        with pytest.raises(UserError, match=words) as error:
            opened(path, **change)
        assert "\n" not in str(error.value)
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    "line",
    [
        b'{"level":20,"weights":"x","bits":{},"correct":5,"seen":5,"images":5}',
        b'{"level":20,"weights":"x","bits":{},"correct":1e999,"seen":5,"images":288}',
        b'{"level":[20],"weights":"x","bits":{},"correct":5,"seen":5,"images":288}',
        b"[1]",
        b"\xff",
    ],
)
def test_a_damaged_log_of_another_search_is_left_aside_with_a_note(opened, tmp_path, line):
    other = tmp_path / "other" / LOG_FILE
    fill(opened(other))
    other.write_bytes(other.read_bytes() + line + b"\n")
    with pytest.warns(UserNote, match="the log of another search is left aside: .* line 6 is damaged"):
        log = opened(tmp_path / LOG_FILE, others=[other])
    with log:
        # Not even the lines before the damage are believed.
        assert len(log) == 0
    with pytest.raises(UserError, match="line 6 is damaged"):
        opened(other)
