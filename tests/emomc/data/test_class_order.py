"""The order of classes that trained weights have: files that say it, and labels that follow it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emomc.common.errors import UserError
from emomc.data.class_order import in_class_order, read_class_order
from emomc.data.image_dataset import ImageDataset
from emomc.data.images import ArrayImages

NAMES = ("dog", "cat", "bird")


def dataset_of(class_names: tuple[str, ...], labels: torch.Tensor) -> ImageDataset:
    # The first pixel of an image says its class.
    images = ArrayImages(labels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous(), labels)
    return ImageDataset(images, None, class_names, (0.5,), (0.5,), validation=images.subset(torch.arange(2)))


@given(st.permutations(["a", "b", "c", "d", "e"]), st.integers(2, 5))
def test_every_image_keeps_the_name_of_its_class(order, count):
    own = ("a", "b", "c", "d", "e")[:count]
    labels = torch.arange(3 * count) % count
    found = in_class_order(dataset_of(own, labels), order)
    assert found.class_names == tuple(order)
    for part in (found.train, found.validation):
        pixels, new = part[torch.arange(len(part))]
        assert [own[int(image[0, 0, 0])] for image in pixels] == [order[label] for label in new.tolist()]


def test_the_same_order_changes_nothing():
    dataset = dataset_of(NAMES, torch.tensor([0, 1, 2]))
    assert in_class_order(dataset, NAMES) is dataset


def test_a_class_that_no_output_stands_for():
    with pytest.raises(UserError, match=r"expected images of the classes dog, cat, found the class 'bird'$"):
        in_class_order(dataset_of(NAMES, torch.tensor([0, 1, 2])), ("dog", "cat"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "dog\ncat\n\n bird \n"),
        ("classes.txt", "\ufeffdog\r\ncat\r\nbird"),
        ("a.json", json.dumps(NAMES)),
        ("a.json", json.dumps({"cat": 1, "dog": 0, "bird": 2})),
        ("a.json", json.dumps({"2": "bird", "0": "dog", "1": "cat"})),
        ("a.json", json.dumps({"0": ["n1", "dog"], "1": ["n2", "cat"], "2": ["n3", "bird"]})),
    ],
)
def test_files_say_the_order(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_class_order(tmp_path / name, ("cat", "dog")) == NAMES


def test_of_several_names_those_of_the_images_are_taken(tmp_path: Path):
    file = tmp_path / "index.json"
    file.write_text(json.dumps({"0": ["n1", "dog"], "1": ["n2", "cat"]}))
    assert read_class_order(file, ("n2",)) == ("n1", "n2")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "dog\ncat\ndog", "expected each class once in .*a.txt, found 'dog' twice"),
        ("a.txt", "dog\ncat", "expected every class of the images in .*a.txt, found none of bird$"),
        ("a.txt", "", "expected 2 to 1,048,576 classes in .*a.txt, found 0"),
        ("a.json", '{"dog": 0, "cat": 2}', "expected the numbers 0 to 1, each once, in .*a.json, found others"),
        ("a.json", '{"0": ["a", "b"], "1": ["c"]}', "expected texts as the names .*, as many for each class"),
        ("a.json", '{"0": 1.5, "1": "c"}', "expected texts as the names of classes"),
        ("a.json", "[]", "expected texts as the names of classes"),
        ("a.json", "3", "expected a list of names, or an object of names and numbers in .*a.json"),
    ],
)
def test_a_wrong_file_gets_one_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message) as raised:
        read_class_order(tmp_path / name, ("bird", "cat"))
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="expected a text with one class a line"):
        read_class_order(tmp_path / "a.txt", ("cat",))


def test_no_file(tmp_path):
    with pytest.raises(UserError, match=r"expected the classes at .*a.txt, found no such file"):
        read_class_order(tmp_path / "a.txt", ("cat",))
