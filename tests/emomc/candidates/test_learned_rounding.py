"""Learned rounding in a library's networks: evaluated, counted and exported alike, and made again from the files."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from lightning_fabric import Fabric
from pytorch_lightning.plugins.environments import LightningEnvironment

from emomc.candidates.calibration import calibrate, open_calibration
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.genotype import Genotype
from emomc.common.errors import UserError
from emomc.compression.quantizers import Quantizer
from emomc.compression.rounding import MOST_LEARNED_BITS
from emomc.data.config import DataConfig
from emomc.data.splits import load_some
from emomc.library.data_sources import build_data
from emomc.library.network_sources import library_graph

NEAREST = Quantizer("absmax", per_channel=True, bias_correction=True)
LEARNED = dataclasses.replace(NEAREST, rounding="learned")


@pytest.fixture(scope="module")
def inputs(shared_library):
    data = build_data(DataConfig(**shared_library.manifest.data))
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[LightningEnvironment()])
    graph = library_graph(shared_library)
    return calibrate(shared_library, graph, data, fabric, shared_library.levels, covariances=True)


def networks_of(library, inputs, quantizer=LEARNED):
    return CompressedNetworks(library, library_graph(library), quantizer, inputs=inputs)


def test_the_calibration_has_a_folder_of_its_own(shared_library, inputs):
    data = build_data(DataConfig(**shared_library.manifest.data))
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[LightningEnvironment()])
    plain = calibrate(shared_library, library_graph(shared_library), data, fabric, [50])
    assert plain.digest != inputs.digest
    name = shared_library.manifest.compressed_layers[0].name
    assert plain.level(50)[name].covariance is None
    assert torch.equal(plain.level(50)[name].mean_patch, inputs.level(50)[name].mean_patch)


def test_codes_and_steps_are_the_same_in_other_networks_of_the_same_files(shared_library, inputs):
    one = networks_of(shared_library, inputs)
    other = networks_of(shared_library, open_calibration(shared_library, inputs.digest))
    for name in one.layers:
        first, again = one.quantized(50, name, 3), other.quantized(50, name, 3)
        assert torch.equal(first.codes, again.codes)
        assert torch.equal(first.scale, again.scale)
        assert one.quantized(50, name, 3) is first


def test_few_bits_are_learned_and_many_are_not(shared_library, inputs):
    nearest, learned = networks_of(shared_library, inputs, NEAREST), networks_of(shared_library, inputs)
    for bits in range(2, 13):
        same = [
            torch.equal(nearest.quantized(50, name, bits).codes, learned.quantized(50, name, bits).codes)
            for name in learned.layers
        ]
        assert all(same) if bits > MOST_LEARNED_BITS else not all(same)


def test_removed_weights_stay_zero(shared_library, inputs):
    networks = networks_of(shared_library, inputs)
    for name in networks.layers:
        removed = networks.level(20).weights[name] == 0
        assert not networks.quantized(20, name, 4).codes[removed].any()


def test_the_scores_change_less(shared_library, inputs):
    images, _ = load_some(build_data(DataConfig(**shared_library.manifest.data)), "validation", 100)
    deviations = []
    for quantizer in (NEAREST, LEARNED):
        networks = networks_of(shared_library, inputs, quantizer)
        whole = networks.load(Genotype(50, (32,) * len(networks.layers)))(images).clone()
        low = networks.load(Genotype(50, (2,) * len(networks.layers)))(images)
        deviations.append(float((low - whole).square().mean()))
    assert deviations[1] < 0.7 * deviations[0]


def test_what_is_exported_is_what_was_evaluated_and_counted(shared_library, inputs, check_export):
    networks = networks_of(shared_library, inputs)
    check_export(networks)


def test_fine_tuning_starts_from_the_learned_codes(shared_library, inputs):
    networks = networks_of(shared_library, inputs)
    genotype = Genotype(50, (2,) * len(networks.layers))
    network, layers = networks.trainable(genotype)
    for name, (_, start) in layers.items():
        weight = network.get_parameter(f"{name}.weight")
        codes = (weight / start.scale.view(-1, *[1] * (weight.ndim - 1))).round().clamp(-1, 1)
        assert torch.equal(codes, start.codes.float())


def test_learned_rounding_needs_inputs(shared_library):
    with pytest.raises(ValueError, match="expected inputs="):
        CompressedNetworks(shared_library, library_graph(shared_library), Quantizer(rounding="learned"))


@pytest.mark.parametrize("broken", ["none", "shape", "not finite"])
def test_a_calibration_without_the_covariances_is_refused(shared_library, inputs, tmp_path, broken):
    store = open_calibration(shared_library, inputs.digest)
    level = dict(store.level(50))
    name = next(iter(level))
    given = {
        "none": None,
        "shape": torch.zeros(1, 2, 2),
        "not finite": torch.full_like(level[name].covariance, float("nan")),
    }
    level[name] = dataclasses.replace(level[name], covariance=given[broken])
    wrong = open_calibration(shared_library, inputs.digest)
    wrong.folder = tmp_path
    wrong.write(50, level)
    with pytest.raises(UserError, match=f"expected the covariance of the inputs of {name} of shape"):
        networks_of(shared_library, wrong).quantized(50, name, 3)
