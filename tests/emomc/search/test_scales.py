"""The setting of the scales in a search's files: what is older than it had float32."""

import dataclasses
import json

from emomc.search.config import SearchConfig
from emomc.search.run import read_settings


def test_new_searches_have_float16():
    assert SearchConfig().scales == "float16"
    assert SearchConfig().quantization.scales == "float16"


def test_the_settings_of_an_older_search_have_float32(tmp_path):
    values = dataclasses.asdict(SearchConfig())
    del values["scales"]
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(values))
    assert read_settings(path) == SearchConfig(scales="float32")


def test_they_are_part_of_what_an_evaluation_depends_on(search, shared_library):
    conditions = {}
    for scales in ("float32", "float16"):
        found = search(shared_library, name=scales, scales=scales, number_generations=1)
        assert found.tally.reused == 0
        conditions[scales] = json.loads(found.files.log.read_text().splitlines()[0])["conditions"]["quantizer"]
    # As in logs that are older than the setting.
    assert "scales" not in conditions["float32"]
    assert conditions["float16"] == {**conditions["float32"], "scales": "float16"}
