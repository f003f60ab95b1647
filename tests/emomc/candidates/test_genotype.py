"""Genes to genotypes and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emomc.candidates.genotype import Genotype, SearchSpace
from emomc.common.errors import UserError

SETTINGS = settings(max_examples=60, deadline=None)


@st.composite
def spaces(draw):
    levels = sorted(draw(st.sets(st.integers(1, 100), min_size=1, max_size=8)))
    low = draw(st.integers(2, 12))
    layers = tuple(f"layer{index}" for index in range(draw(st.integers(1, 6))))
    inputs = draw(st.sets(st.integers(2, 16), max_size=4))
    return SearchSpace(tuple(levels), layers, low, draw(st.integers(low, 12)), tuple(sorted(inputs)))


@st.composite
def points(draw):
    space = draw(spaces())
    bits = tuple(draw(st.integers(space.min_bits, space.max_bits)) for _ in space.layers)
    inputs = space.activation_bits and tuple(draw(st.sampled_from(space.activation_bits)) for _ in space.layers)
    return space, Genotype(draw(st.sampled_from(space.levels)), bits, activation_bits=inputs)


@SETTINGS
@given(points())
def test_encoded_and_decoded_is_the_same(point):
    space, genotype = point
    genes = space.encode(genotype)
    assert genes.shape == space.lower.shape == (1 + len(space.layers) * (2 if space.activation_bits else 1),)
    assert bool(((space.lower <= genes) & (genes <= space.upper)).all())
    assert space.decode(genes) == genotype


@SETTINGS
@given(spaces(), st.integers(0, 10**6))
def test_every_row_within_the_bounds_decodes(space, seed):
    genes = np.random.default_rng(seed).integers(space.lower, space.upper + 1)
    genotype = space.decode(genes)
    assert genotype.level in space.levels
    assert all(space.min_bits <= bits <= space.max_bits for bits in genotype.bits)
    assert {*genotype.activation_bits} <= {*space.activation_bits}
    assert (space.encode(genotype) == genes).all()


def test_bits_of_inputs_are_choices_in_order():
    space = SearchSpace((20, 50), ("a", "b"), 2, 4, (4, 6, 16))
    assert space.upper.tolist() == [1, 4, 4, 2, 2]
    assert space.decode(np.array([1, 2, 4, 2, 0])) == Genotype(50, (2, 4), activation_bits=(16, 4))
    assert space.uniform(20, 3) == Genotype(20, (3, 3), activation_bits=(16, 16))
    assert space.uniform(20, 3, 4) == Genotype(20, (3, 3), activation_bits=(4, 4))


def test_without_them_a_genotype_is_what_it_was():
    space = SearchSpace((20, 50), ("a", "b"), 2, 4)
    assert space.upper.tolist() == [1, 4, 4]
    assert space.decode(np.array([1, 2, 4])) == space.decode(np.array([1.0, 2.2, 3.7])) == Genotype(50, (2, 4))
    assert space.uniform(20, 3) == Genotype(20, (3, 3))


def test_reals_are_rounded_once():
    space = SearchSpace((20, 50, 80), ("a", "b"))
    # 2.49 bits are 2 bits, both for the cost and for the weights.
    assert space.decode(np.array([1.4, 2.49, 11.6])) == Genotype(50, (2, 12))
    assert all(type(bits) is int for bits in space.decode(np.array([1.4, 2.49, 11.6])).bits)


def test_size_counts_the_genotypes():
    assert SearchSpace((20, 50), ("a", "b", "c"), 2, 4).size == 2 * 3**3
    assert SearchSpace(tuple(range(20, 81, 5)), tuple("abcde")).size == 13 * 11**5
    assert SearchSpace((20, 50), ("a", "b", "c"), 2, 4, (4, 8)).size == 2 * 6**3


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (((), ("a",)), "levels and layers to search, found 0 and 1"),
        (((20,), ()), "found 1 and 0"),
        (((50, 20), ("a",)), "ascending order"),
        (((20, 20), ("a",)), "each once"),
        (((20,), ("a",), 1, 4), "min_bits"),
        (((20,), ("a",), 5, 4), "found 5 and 4"),
        (((20,), ("a",), 2, 13), "max_bits <= 12"),
        (((20,), ("a",), 2, 12, (8, 4)), "activation_bits in ascending order"),
        (((20,), ("a",), 2, 12, (4, 4)), "each once"),
    ],
)
def test_spaces_that_are_none(values, words):
    with pytest.raises(UserError, match=words):
        SearchSpace(*values)
