"""Files of tensors are read whole, checked, and closed."""

from __future__ import annotations

import hashlib

import pytest
import torch
from safetensors.torch import save

from emomc.common.errors import UserError
from emomc.runtime.tensor_files import read_tensors


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(save({"b": torch.arange(6.0).view(2, 3), "a": torch.ones(1)}, metadata={"made": "here"}))
    return path


def test_tensors_and_metadata_come_back(path):
    tensors, metadata = read_tensors(path, "weights", hashlib.sha256(path.read_bytes()).hexdigest())
    assert list(tensors) == ["a", "b"]
    assert torch.equal(tensors["b"], torch.arange(6.0).view(2, 3))
    assert metadata == {"made": "here"}


def test_a_file_that_is_cut_later_does_not_matter(path):
    tensors, _ = read_tensors(path, "weights")
    with path.open("r+b") as file:
        file.truncate(0)
    # A memory-mapped file would end the process here.
    assert float(tensors["b"].sum()) == 15.0


def test_another_checksum_is_named(path):
    with pytest.raises(UserError, match=r"with the checksum 000000000000 of the manifest, found .*changed or swapped"):
        read_tensors(path, "weights", "0" * 64)


CONTENTS = [b"", b"x" * 7, b"\xff" * 40, b"\x02" + bytes(7) + b"[]", b"\x08" + bytes(7) + b'{"a":1} ']


@pytest.mark.parametrize("content", CONTENTS)
def test_anything_else_is_one_line(path, content):
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"expected weights in .*, found a file that cannot be read") as caught:
        read_tensors(path, "weights")
    assert "\n" not in str(caught.value)
