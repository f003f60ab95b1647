"""How sensitive each layer is: the counts against networks changed by hand, the free range, the page and the table."""

from __future__ import annotations

import copy
import csv
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emomc.common.run_folder import RunFolder
from emomc.compression.pruning import remaining_count
from emomc.compression.quantization import quantize_symmetric
from emomc.data.splits import load_some
from emomc.library.data_sources import library_data
from emomc.library.manifest import DENSE
from emomc.library.network_sources import library_network
from emomc.networks.state import load_unique
from emomc.pretraining import measured_images
from emomc.pretraining.layer_sensitivity import BITS, DENSITIES, NetworkSensitivity, measure_layers
from emomc.pretraining.sensitivity_page import sensitivity_page, sensitivity_table


@pytest.fixture(scope="module")
def network(shared_library):
    return library_network(shared_library)


@pytest.fixture(scope="module")
def found(shared_library, network):
    return measure_layers(shared_library, network, library_data(shared_library), channels_last=True)


class TestMeasuring:
    def test_every_layer_density_and_bits_is_measured(self, shared_library, found):
        assert [one.layer for one in found.layers] == list(shared_library.manifest.compressed_layers)
        for one in found.layers:
            assert tuple(one.by_density) == DENSITIES
            assert tuple(one.by_bits) == BITS

    def test_counts_are_those_of_the_network_changed_by_hand(self, shared_library, network, found):
        images, labels = load_some(library_data(shared_library), "validation", measured_images.MOST)
        assert found.images == len(labels)
        dense = copy.deepcopy(network).eval()
        load_unique(dense, shared_library.load_state(DENSE))

        def correct(changed):
            with torch.no_grad():
                return int((changed(images).argmax(1) == labels).sum())

        # Sums in another order may turn an image that is close to the border.
        assert found.dense_correct == pytest.approx(correct(dense), abs=1)
        for one in found.layers:
            pruned, rounded = copy.deepcopy(dense), copy.deepcopy(dense)
            weight = pruned.get_parameter(one.layer.weight_key)
            with torch.no_grad():
                kept = weight.abs().flatten().topk(remaining_count(weight.numel(), 20)).indices
                mask = torch.zeros(weight.numel())
                mask[kept] = 1
                weight.mul_(mask.view_as(weight))
                other = rounded.get_parameter(one.layer.weight_key)
                other.copy_(quantize_symmetric(other, 3, per_channel=True).dequantize())
            assert one.by_density[20] == pytest.approx(correct(pruned), abs=1)
            assert one.by_bits[3] == pytest.approx(correct(rounded), abs=1)

    def test_the_network_is_not_changed(self, shared_library, network):
        before = {key: value.clone() for key, value in network.state_dict().items()}
        measure_layers(shared_library, network, library_data(shared_library), channels_last=False)
        assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())


class TestLossless:
    @pytest.mark.parametrize(
        ("images", "correct", "expected"),
        [
            (500, {80: 490, 40: 489, 20: 488, 10: 490}, 40),  # one in 500 may be lost; what is below does not count
            (500, {8: 480, 4: 490}, None),
            (5000, {8: 4900, 4: 4890, 2: 4889}, 4),
            (60, {8: 58}, None),
            (60, {8: 59}, 8),
        ],
    )
    def test_by_hand(self, images, correct, expected):
        dense = {500: 490, 5000: 4900, 60: 60}[images]
        assert NetworkSensitivity(images, dense, ()).lossless(correct) == expected

    @given(st.dictionaries(st.integers(2, 12), st.integers(0, 100), min_size=1))
    def test_nothing_is_lost_from_there_up(self, correct):
        free = NetworkSensitivity(100, 90, ()).lossless(correct)
        kept = [count for value, count in correct.items() if free is not None and value >= free]
        assert all(count >= 89 for count in kept)
        assert (free is None) == (correct[max(correct)] < 89)


class TestFiles:
    def test_are_made_with_the_library_once_and_say_the_same(self, shared_run, found):
        run = RunFolder(shared_run)
        assert run.sensitivity_table.read_text() == sensitivity_table(found)
        assert run.sensitivity_page.read_text() == sensitivity_page(found, "lenet5 on digits")

    def test_the_table_has_every_number(self, found):
        rows = list(csv.DictReader(io.StringIO(sensitivity_table(found))))
        assert len(rows) == len(found.layers) * (len(DENSITIES) + len(BITS))
        one = found.layers[1]
        (row,) = [row for row in rows if (row["layer"], row["change"], row["value"]) == (one.layer.name, "bits", "2")]
        assert float(row["validation_accuracy"]) == pytest.approx(one.by_bits[2] / found.images, abs=1e-6)

    def test_the_page_takes_names_as_text(self, found):
        assert "<b>x</b>" not in sensitivity_page(found, "<b>x</b>")

    def test_made_again_with_the_library(self, shared_run, prepare, tmp_path):
        prepare(tmp_path, pre_prune_lower_bound=80)
        page = RunFolder(tmp_path).sensitivity_page
        page.write_text("kept")
        prepare(tmp_path, pre_prune_lower_bound=50)
        assert page.read_text() == "kept"
        prepare(tmp_path, pre_prune_lower_bound=80, overwrite=True)
        assert page.read_text() == RunFolder(shared_run).sensitivity_page.read_text()
