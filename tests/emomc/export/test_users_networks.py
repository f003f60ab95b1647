"""What is evaluated and exported of a user's network gives the scores of the network itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.genotype import Genotype
from emomc.candidates.packing import pack_candidate
from emomc.common.user_code import load_object
from emomc.compression.quantizers import Quantizer
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.export.formats import FORMATS, export_network
from emomc.library.library import Library
from emomc.library.manifest import Manifest
from emomc.library.network_sources import checked_library_graph
from emomc.networks.answer import select_answer
from emomc.networks.equivalence import TOLERANCE, deviation
from emomc.networks.graph import trace_network
from emomc.networks.preparation import make_plain
from emomc.networks.state import load_unique, unique_state

# Some are not run in every way, and a note says so.
pytestmark = pytest.mark.filterwarnings("ignore::emomc.networks.graph.NetworkWarning")

USERS = Path(__file__).parents[2] / "users_networks.py"
EQUAL, NOT_IN_C, with_trained_norms = (
    load_object(f"{USERS}:{name}", "networks") for name in ("EQUAL", "NOT_IN_C", "with_trained_norms")
)
SHAPE = (1, 32, 32)
# Weights stored with their inputs first, products that a runtime may replace, and equal weights.
QUICK = ("Other", "Attentive", "Twins", "OwnMatrix")
# These differ in what is folded, hooked, computed or shared; those above go through the same forms with few bits.
WHOLE = ("Strided", "ActivatedNorm", "WeightNormed", "UsedTwice", "Auxiliary")


def forms(kind):
    """Return the formats, but for C where it lacks an operation."""
    return [name for name in FORMATS if name != "c" or kind.__name__ not in NOT_IN_C]


def library_of(folder, network):
    """A library with the dense network alone."""
    manifest = Manifest(
        network=f"users.py:{type(network).__name__}",
        network_args={},
        network_source_sha256="0" * 64,
        data={"dataset": "digits"},
        input_shape=SHAPE,
        class_names=tuple("0123456789"),
        mean=None,
        std=None,
        layers=trace_network(network, SHAPE).layers,
        excluded_layers=(),
        evaluation_batch_size=16,
        settings={},
    )
    library = Library.create(folder, manifest)
    library.add_level(100, unique_state(network), {}, validation_accuracy=0.5, epochs=1)
    return library


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=() if kind.__name__ in WHOLE else pytest.mark.slow) for kind in EQUAL],
    ids=lambda kind: kind.__name__,
)
def test_every_form_has_the_scores_of_the_network(tmp_path, kind):
    torch.manual_seed(0)
    network = kind()
    # Lazy modules have no norms to fill yet.
    with torch.no_grad():
        network(torch.zeros(2, *SHAPE))
    with_trained_norms(network)
    images = torch.randn(9, *SHAPE)
    with torch.no_grad():
        expected = select_answer(network(images))
    make_plain(network, SHAPE)
    library = library_of(tmp_path / "library", network)
    networks = CompressedNetworks(library, checked_library_graph(library, network, images), Quantizer())
    whole = Genotype(100, (UNCOMPRESSED_BITS,) * len(networks.layers))
    with torch.no_grad():
        assert deviation(networks.load(whole)(images), expected) < TOLERANCE
    packed = pack_candidate(networks, whole)
    fresh = make_plain(kind(), SHAPE)
    for name in forms(kind):
        path = tmp_path / f"network.{name}"
        export_network(path, packed, name, network=fresh)
        with FORMATS[name].running(path, packed, fresh) as exported, torch.no_grad():
            assert deviation(exported(images).reshape(expected.shape), expected) < TOLERANCE, name


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=() if kind.__name__ in QUICK else pytest.mark.slow) for kind in EQUAL],
    ids=lambda kind: kind.__name__,
)
def test_few_bits_give_the_same_scores_in_every_form(tmp_path, kind):
    torch.manual_seed(0)
    network = make_plain(kind(), SHAPE)
    library = library_of(tmp_path / "library", with_trained_norms(network))
    images = torch.randn(9, *SHAPE)
    graph = checked_library_graph(library, network, images)
    networks = CompressedNetworks(library, graph, Quantizer("mse", per_channel=True))
    few = Genotype(100, tuple(2 + place % 8 for place in range(len(networks.layers))))
    with torch.no_grad():
        expected = networks.load(few)(images).clone()
    packed = pack_candidate(networks, few)
    for name in forms(kind):
        path = tmp_path / f"network.{name}"
        export_network(path, packed, name, network=network)
        with FORMATS[name].running(path, packed, network) as exported, torch.no_grad():
            assert deviation(exported(images).reshape(expected.shape), expected) < TOLERANCE, name


def test_a_state_with_several_names_for_a_tensor_is_kept_once_and_read_back():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Linear(3, 3)
            self.other = self.one
            self.register_buffer("table", torch.arange(3.0))

    torch.manual_seed(0)
    network, fresh = Shared(), Shared()
    state = unique_state(network)
    assert state.keys() == {"one.weight", "one.bias", "table"}
    load_unique(fresh, state)
    assert torch.equal(fresh.other.weight, network.one.weight)
    assert fresh.other is fresh.one
