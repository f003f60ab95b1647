"""Masks of patterns: exact, nested, and of the largest weights."""

from __future__ import annotations

import pytest
import torch

from emomc.compression.patterns import Pruning, Structure, prune
from emomc.compression.pruning import prune_by_magnitude
from emomc.networks.layers import LayerCall, LayerShape, output_first

CALL = (LayerCall((4, 4), (4, 4)),)
CONV = LayerShape("conv", "conv", 8, 12, CALL, kernel_size=(3, 3))
NARROW = LayerShape("narrow", "conv", 3, 6, CALL, kernel_size=(3, 3))
DEPTHWISE = LayerShape("depthwise", "conv", 8, 8, CALL, kernel_size=(3, 3), groups=8)
TRANSPOSED = LayerShape("transposed", "conv_transpose", 8, 4, CALL, kernel_size=(2, 2), input_first=True)
LINEAR = LayerShape("linear", "linear", 10, 7, (LayerCall((1, 1), (1, 1)),))
LAYERS = (CONV, NARROW, DEPTHWISE, TRANSPOSED, LINEAR)


def weights_of(layers=LAYERS):
    generator = torch.Generator().manual_seed(0)
    shapes = {
        layer.name: (layer.in_channels, layer.out_channels, *layer.kernel_size)
        if layer.input_first
        else (
            layer.out_channels,
            layer.in_channels // layer.groups,
            *(layer.kernel_size if layer.kind == "conv" else ()),
        )
        for layer in layers
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def pruned(pattern, weights=None, percent=50, masks=None, **more):
    weights = weights or weights_of()
    masks = masks or {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    return prune(Pruning(weights, masks, percent, Structure(pattern, LAYERS), **more))


def groups(mask, layer, many):
    """The mask with inputs last, in groups; what fills the last group is no weight."""
    moved = output_first(mask, layer).movedim(1, -1)
    return torch.nn.functional.pad(moved, (0, -moved.shape[-1] % many)).unflatten(-1, (-1, many))


@pytest.mark.parametrize(("few", "many"), [(2, 4), (1, 4), (3, 8), (1, 2)])
def test_each_group_has_n_of_m(few, many):
    masks = pruned(f"{few}:{many}")
    for layer in LAYERS:
        kept = groups(masks[layer.name], layer, many).sum(-1)
        room = groups(torch.ones_like(masks[layer.name]), layer, many).sum(-1)
        assert torch.equal(kept, room.clamp(max=few))


def test_n_m_keeps_the_largest():
    weights = weights_of()
    masks = pruned("2:4", weights)
    kept = torch.where(masks["conv"], weights["conv"].abs(), torch.inf).unflatten(1, (-1, 4)).amin(2)
    lost = torch.where(masks["conv"], -torch.inf, weights["conv"].abs()).unflatten(1, (-1, 4)).amax(2)
    assert (kept >= lost).all()


def test_a_depthwise_layer_stays_whole_under_n_m():
    assert pruned("1:4")["depthwise"].all()


@pytest.mark.parametrize("pattern", ["1:4", "block:4x1", "block:2x2"])
def test_masks_of_a_chain_are_nested(pattern):
    first = pruned("2:4" if pattern == "1:4" else pattern, percent=60)
    second = pruned(pattern, percent=30, masks=first)
    assert all((second[name] <= first[name]).all() for name in first)
    assert all(second[name].sum() < first[name].sum() for name in ("conv", "linear"))


@pytest.mark.parametrize(("rows", "columns"), [(4, 1), (1, 4), (2, 2), (3, 5)])
def test_blocks_are_whole(rows, columns):
    masks = pruned(f"block:{rows}x{columns}")
    for layer in LAYERS:
        mask = output_first(masks[layer.name], layer)
        for row in range(0, mask.shape[0], rows):
            for column in range(0, mask.shape[1], columns):
                block = mask[row : row + rows, column : column + columns].flatten(0, 1)
                assert torch.equal(block.all(0), block.any(0))


@pytest.mark.parametrize("criterion", ["layerwise", "global", "lamp", "macs"])
def test_blocks_of_one_weight_would_be_unstructured(criterion):
    weights = weights_of((LINEAR,))
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    macs = {"linear": LINEAR.macs}
    structure = Structure("block:7x1", (LINEAR,))
    # Rows that are all alike: a block is as large as each of its weights.
    alike = {"linear": weights["linear"][:1].expand(7, 10).contiguous()}
    found = prune(Pruning(alike, masks, 40, structure, criterion, macs))["linear"]
    single = prune_by_magnitude({"linear": alike["linear"][:1]}, 40, criterion=criterion, macs=macs)["linear"]
    assert torch.equal(found, single.expand(7, 10))


def test_counts_are_those_of_weights():
    counts = {layer.name: layer.weights // 2 for layer in LAYERS}
    masks = pruned("block:4x1", counts=counts)
    for layer in LAYERS:
        assert abs(int(masks[layer.name].sum()) - counts[layer.name]) <= 4
    assert {name: int(mask.sum()) for name, mask in pruned("unstructured", counts=counts).items()} == counts
