"""The setting of the rounding in a search's files: what is older than it was rounded to the nearest codes."""

from __future__ import annotations

import json

import pytest

from emomc.callbacks.search.front_writer import FrontWriter
from emomc.cli.export_run import point_network
from emomc.common.errors import UserError
from emomc.fronts.front_file import read_front
from emomc.library.library import Library
from emomc.search.config import SearchConfig
from emomc.search.run import read_settings


@pytest.fixture(scope="module")
def searches(copy_to, search, tmp_path_factory):
    """A small search of each rounding in one folder, by name."""
    library = copy_to(tmp_path_factory.mktemp("rounding") / "run")
    return {
        name: search(library, [FrontWriter()], name=name, rounding=name, number_generations=2)
        for name in ("nearest", "learned")
    }


def test_it_is_part_of_what_an_evaluation_depends_on(searches):
    learned, nearest = searches["learned"], searches["nearest"]
    assert learned.tally.reused == 0
    quantizers = [
        json.loads(found.files.log.read_text().splitlines()[0])["conditions"]["quantizer"]
        for found in (learned, nearest)
    ]
    assert quantizers[0] == {**quantizers[1], "rounding": "learned"}
    # As in logs that are older than the setting.
    assert "rounding" not in quantizers[1]
    assert learned.inputs.digest != nearest.inputs.digest


def test_the_settings_of_an_older_search_round_to_the_nearest(searches, tmp_path, search):
    values = json.loads(searches["nearest"].files.settings.read_text())
    assert values.pop("rounding") == "nearest"
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(values))
    assert read_settings(path) == searches["nearest"].config
    assert read_settings(searches["learned"].files.settings).rounding == "learned"


def test_an_older_search_goes_on_with_the_nearest_codes_only(searches, search):
    found = searches["nearest"]
    values = json.loads(found.files.settings.read_text())
    del values["rounding"]
    found.files.settings.write_text(json.dumps(values))
    library = Library.open(found.library.path)
    again = search(library, name="nearest", rounding="nearest", number_generations=2)
    assert again.tally.measured == 0
    with pytest.raises(UserError, match=r"expected a search with rounding = 'learned' in .*, found one with 'nearest'"):
        search(library, name="nearest", rounding="learned", number_generations=2)


def test_the_codes_of_a_front_are_those_of_its_search(searches):
    for name, found in searches.items():
        front = read_front(found.folder)
        assert front["settings"]["rounding"] == name
        if name == "nearest":
            del front["settings"]["rounding"]
        networks, genotype = point_network(Library.open(found.library.path), None, front, front["points"][0])
        assert networks.quantizer.rounding == name
        mine = found.cost_model.networks
        for layer in mine.layers:
            for bits in (2, 4):
                own, again = (
                    mine.quantized(genotype.level, layer, bits),
                    networks.quantized(genotype.level, layer, bits),
                )
                assert (own.codes == again.codes).all()
                assert (own.scale == again.scale).all()


def test_the_default_is_learned():
    assert SearchConfig().rounding == "learned"
    assert SearchConfig().quantization.needs_covariances
