"""Networks of several inputs or outputs as functions of one tensor."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from emomc.common.errors import UserError
from emomc.networks.interface import NetworkInterface, Part, described, leaves, nested
from emomc.networks.joined import JoinedNetwork, SeparatedNetwork, one_tensor_network

KEYS = st.sampled_from(["boxes", "mask", "extra"])
SHAPES = st.lists(st.integers(1, 4), max_size=3).map(tuple)
TREES = st.recursive(
    SHAPES.map(lambda shape: torch.randn(5, *shape)),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(tuple) | st.dictionaries(KEYS, inner, min_size=1),
    max_leaves=6,
)


def same(one, other) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return len(one) == len(other) and all(map(same, one, other))


@given(TREES)
def test_nested_values_are_found_at_their_paths(tree):
    assert same(nested(dict(leaves(tree))), tree)


@given(st.lists(TREES, min_size=1, max_size=3), st.dictionaries(KEYS, TREES, max_size=2), TREES)
def test_a_network_seen_as_a_function_of_one_tensor_and_back_is_the_network(given, named, returned):
    class Adds(nn.Module):
        """Adds a number that depends on all inputs to what it returns."""

        def forward(self, *positional, **keywords):
            total = sum(value.sum() for _, value in [*leaves(positional), *leaves(keywords)])
            return nested({path: value + total for path, value in leaves(returned)})

    inputs = dict([*leaves(tuple(given)), *leaves(named)])
    interface = NetworkInterface(
        described(inputs), () if isinstance(returned, Tensor) else described(dict(leaves(returned)))
    )
    network = Adds()
    separated = SeparatedNetwork(JoinedNetwork(network, interface), interface)
    torch.testing.assert_close(separated(*given, **named), network(*given, **named))


def test_the_wrapper_of_one_tensor_is_in_the_networks_mode():
    interface = NetworkInterface(outputs=(Part((0,), (2,)), Part((1,), (2,))))
    for form in (None, interface):
        assert not one_tensor_network(nn.Linear(2, 2).eval(), form).training


@pytest.mark.parametrize(
    ("sizes", "shape"), [((3, 4), (7,)), ((1 << 16, 1 << 16), (2, 1 << 16)), ((3 * (1 << 15), 5), (37, 2657))]
)
def test_joined_inputs_have_sides_that_a_file_can_hold(sizes, shape):
    assert NetworkInterface(tuple(Part((place,), (size,)) for place, size in enumerate(sizes))).input_shape == shape


def test_inputs_that_have_no_such_shape_are_refused():
    with pytest.raises(UserError, match="expected inputs of some 65536 numbers at most in all, found 65537"):
        _ = NetworkInterface((Part((0,), (65537,)),)).input_shape


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([((0,), (2,)), ((0,), (3,))], "at different places"),
        ([((0,), (2,)), ((0, 1), (3,))], "at different places"),
        ([((0,), (0,))], "sides of at least 1"),
        ([((), (2,))], "a path of a part"),
        ([((place,), (1,)) for place in range(300)], "at most 256 inputs"),
    ],
)
def test_parts_of_a_file_that_do_not_fit_are_refused(parts, message):
    with pytest.raises(UserError, match=message):
        NetworkInterface(tuple(Part(path, shape) for path, shape in parts))


def test_a_call_with_other_inputs_is_refused():
    interface = NetworkInterface((Part((0,), (2,)), Part(("extra",), (2,))))
    with pytest.raises(UserError, match="expected inputs at"):
        SeparatedNetwork(nn.Identity(), interface)(torch.zeros(1, 2))
