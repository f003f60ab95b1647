"""The class scores among the outputs of a network."""

from __future__ import annotations

import pytest
import torch

from emomc.common.errors import UserError
from emomc.networks.answer import auxiliary_answers, select_answer

ONE, TWO, MAP = torch.zeros(2, 3), torch.ones(2, 3), torch.zeros(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("outputs", "choice", "answer"),
    [
        (ONE, None, ONE),
        ((ONE, TWO), None, ONE),
        ([MAP, TWO], "1", TWO),
        ({"scores": ONE}, None, ONE),
        ({"maps": MAP, "scores": TWO}, "scores", TWO),
    ],
)
def test_the_only_one_the_first_or_the_chosen(outputs, choice, answer):
    assert select_answer(outputs, choice) is answer


@pytest.mark.parametrize(
    ("outputs", "choice", "words"),
    [
        (None, None, "found a NoneType"),
        ({"a": ONE, "b": TWO}, None, "found a, b"),
        ({"a": ONE}, "b", "as output b, found a"),
        ((ONE,), "3", "as output 3, found 1 in order"),
        ((ONE,), "scores", "as output scores"),
        (("text", ONE), None, "one tensor"),
    ],
)
def test_no_such_output(outputs, choice, words):
    with pytest.raises(UserError, match=words):
        select_answer(outputs, choice)


def test_other_outputs_of_the_same_shape_are_those_of_auxiliary_heads():
    assert auxiliary_answers((ONE, TWO, MAP), ONE) == [TWO]
    assert auxiliary_answers({"a": ONE, "m": MAP}, ONE) == []
    assert auxiliary_answers(ONE, ONE) == []
