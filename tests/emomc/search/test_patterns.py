"""Searches over several patterns: the smaller networks of channels are evaluated, costed and exported as they are."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.cost_model import CostModel
from emomc.candidates.genotype import Genotype
from emomc.candidates.packing import pack_candidate
from emomc.common.errors import UserError
from emomc.compression.quantizers import Quantizer
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.export.loading import load_compressed
from emomc.fronts.document import front_document
from emomc.fronts.front_file import check_front, level_of
from emomc.fronts.pick_rules import DEFAULT_PICK
from emomc.fronts.picks import pick_point
from emomc.hardware.description import load_hardware
from emomc.library.network_sources import library_graph, library_network
from emomc.packed_file.layout import HEADER, PATTERN_VERSION, VERSION
from emomc.packed_file.reader import read_packed
from emomc.packed_file.writer import write_packed
from emomc.search.config import SearchConfig
from emomc.search.run import search_space

BITS = (4, 3, 5, 2, 6)


@pytest.fixture(scope="module")
def networks(patterned_library):
    graph = library_graph(patterned_library, library_network(patterned_library))
    return CompressedNetworks(
        patterned_library, graph, Quantizer(method="absmax", bias_correction=False, rounding="nearest")
    )


@pytest.fixture(scope="module")
def found(patterned_library, search, tmp_path_factory):
    return search(patterned_library, name="mixed", objectives=("accuracy", "size"), coding="best")


@pytest.fixture(scope="module")
def images():
    return torch.randn(8, 1, 32, 32, generator=torch.Generator().manual_seed(0)).contiguous(
        memory_format=torch.channels_last
    )


def test_a_level_of_channels_computes_what_the_masked_network_does(networks, images):
    level = "channel:50"
    smaller = networks.of(level)
    assert smaller is networks.of(level)
    assert sum(layer.macs for layer in smaller.shapes.values()) < 0.7 * sum(
        layer.macs for layer in networks.shapes.values()
    )
    for bits in ((UNCOMPRESSED_BITS,) * 5, BITS):
        genotype = Genotype(level, bits)
        with torch.no_grad():
            torch.testing.assert_close(
                smaller.load(genotype)(images), networks.load(genotype)(images), rtol=1e-4, atol=1e-4
            )


def test_other_patterns_have_the_whole_network(networks):
    assert all(networks.of(level) is networks for level in (100, 50, "2:4", "block:4x1:20"))


@pytest.mark.parametrize("coding", ["best", "nm", "block", "normal"])
@pytest.mark.parametrize("level", [50, "2:4", "block:4x1:20", "channel:20"])
def test_the_packed_file_has_the_bytes_that_were_counted(networks, images, tmp_path, level, coding):
    genotype = Genotype(level, BITS)
    path = tmp_path / "packed.emomc"
    written = write_packed(path, pack_candidate(networks, genotype), coding)
    cost = CostModel(networks, load_hardware("emomc_fpga"), dataflow="xy", coding=coding)
    assert written == int(cost.costs([genotype])["size_bytes"][0])
    version = HEADER.unpack_from(path.read_bytes())[1]
    if coding == "normal":
        assert version == (PATTERN_VERSION if level == "channel:20" else VERSION)
    read = load_compressed(path).to(memory_format=torch.channels_last)
    with torch.no_grad():
        assert torch.equal(read(images), networks.of(level).load(genotype)(images))


def test_costs_of_a_mixed_population_are_those_of_each_alone(networks):
    model = CostModel(
        networks, load_hardware("cortex_m7_cmsis_nn"), dataflow="xy", coding="best", objectives=("latency",)
    )
    genotypes = [Genotype(level, BITS) for level in ("channel:20", 50, "channel:80", "2:4", "channel:20")]
    together = model.costs(genotypes)
    for row, genotype in enumerate(genotypes):
        for name, column in model.costs([genotype]).items():
            assert column[0] == together[name][row]
    assert together["latency_ms"][0] < 0.7 * together["latency_ms"][1]
    np.testing.assert_allclose(model.bytes_by_layer(genotypes)[0], model.bytes_by_layer(genotypes)[4])
    assert 0 < model.density(genotypes[0])[networks.layers[1]] < 0.5


def test_two_of_four_halves_the_cycles_of_hardware_that_skips_them(networks, tmp_path):
    file = tmp_path / "npu.yaml"
    file.write_text(json.dumps(NPU))
    model = CostModel(networks, load_hardware(str(file)), dataflow="xy", coding="nm", objectives=("latency",))
    dense, unstructured, two = model.costs([Genotype(level, (8,) * 5) for level in (100, 50, "2:4")])["cycles"]
    assert dense == unstructured
    assert 0.5 * dense <= two < 0.6 * dense


NPU = {
    "hardware": {
        "version": 1,
        "name": "npu",
        "technology": "of a test",
        "energy_unit": "none",
        "counts": "reuse",
        "precision": {"I": 8, "O": 32},
        "operational_array": {"sizes": [4, 4], "mac": None},
        "memories": [{"name": "buffer", "operands": ["I", "W", "O"], "word_bits": 64}],
        "zero_skipping": {"W": "structured", "pattern": "2:4"},
        "clock_mhz": 100,
        "sources": {"mac": "none", "memories": "none"},
    }
}


def test_a_search_chooses_among_all_patterns(found):
    patterns = {level_of(point).pattern for point in front_document(found)["points"]}
    assert len(patterns) > 1
    front = front_document(found)
    check_front(front)
    picked = pick_point(DEFAULT_PICK, front)
    level = level_of(front["points"][picked.position])
    assert level.pattern == "unstructured" or f"({level.label})" in picked.reason


def test_the_log_answers_a_second_search(found, search):
    again = search(found.library, name="mixed again", objectives=("accuracy", "size"), coding="best")
    assert [candidate.genotype for candidate in again.front] == [candidate.genotype for candidate in found.front]


def test_a_search_of_one_pattern(patterned_library):
    space = search_space(patterned_library, SearchConfig(pattern=["channel"]))
    assert space.levels == ("channel:20", "channel:50", "channel:80", 100)
    with pytest.raises(UserError, match=r"expected a pattern of the library, unstructured, .*, found 3:4"):
        search_space(patterned_library, SearchConfig(pattern=["3:4"]))


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"nothing": "ff"}, "expected a layer of lenet5 whose channels are left, found 'nothing'"),
        ({"conv1": "f"}, "expected which of .* channels are left"),
        ({"conv1": "ffffff"}, "expected which of .* channels are left"),
        ({"conv1": "00"}, "expected which of .* channels are left"),
    ],
)
def test_a_file_that_says_wrong_channels(networks, tmp_path, kept, message):
    packed = pack_candidate(networks, Genotype("channel:50", BITS))
    first = next(iter(packed.description.kept_channels))
    kept = {first if name == "conv1" else name: text for name, text in kept.items()}
    wrong = dataclasses.replace(packed, description=dataclasses.replace(packed.description, kept_channels=kept))
    path = tmp_path / "wrong.emomc"
    write_packed(path, wrong, "normal")
    assert read_packed(path).description.kept_channels == kept
    with pytest.raises(UserError, match=message):
        load_compressed(path)
