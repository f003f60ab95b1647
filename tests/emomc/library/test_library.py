"""The library on disk: bit-exact writing and reading, and a one-line error for every damage."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from emomc.common.errors import UserError
from emomc.common.files import sha256_of_file
from emomc.library.library import Library
from emomc.library.manifest import DENSE, FORMAT_VERSION, MANIFEST, Manifest
from emomc.networks.layers import LayerCall, LayerShape
from emomc.runtime.digests import state_digest


def manifest(**changes):
    layers = (
        LayerShape("conv", "conv", 2, 4, (LayerCall((8, 8), (6, 6)),), (3, 3)),
        LayerShape("fc", "linear", 5, 3, (LayerCall((1, 1), (1, 1)),)),
    )
    values = {
        "network": "own",
        "network_args": {"width": 0.5},
        "network_source_sha256": None,
        "data": {"dataset": "digits"},
        "input_shape": (2, 8, 8),
        "class_names": ("a", "b", "c"),
        "mean": (0.5, 0.5),
        "std": None,
        "layers": layers,
        "excluded_layers": (),
        "evaluation_batch_size": 7,
        "settings": {"seed": 0, "learning_rate": 0.1},
    }
    return Manifest(**{**values, **changes})


def random_state(seed, density=0.3, layout=torch.contiguous_format):
    generator = torch.Generator().manual_seed(seed)
    weights = {"conv": torch.randn(4, 2, 3, 3, generator=generator), "fc": torch.randn(3, 5, generator=generator)}
    masks = {name: torch.rand(weight.shape, generator=generator) < density for name, weight in weights.items()}
    state = {f"{name}.weight": weight * masks[name] for name, weight in weights.items()}
    state["conv.weight"] = state["conv.weight"].contiguous(memory_format=layout)
    state["conv.bias"] = torch.randn(4, generator=generator)
    state["norm.weight"] = torch.randn(4, generator=generator)
    state["norm.num_batches_tracked"] = torch.tensor(12345678901)
    return state, masks


def add(library, percent, state, masks):
    return library.add_level(percent, state, masks, validation_accuracy=0.5, epochs=3)


class TestRoundTrip:
    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.booleans())
    def test_states_and_masks_come_back_bit_for_bit(self, tmp_path_factory, seed, density, last):
        library = Library.create(tmp_path_factory.mktemp("library"), manifest())
        layout = torch.channels_last if last else torch.contiguous_format
        state, masks = random_state(seed, density, layout)
        # A remaining weight may be 0.0 or -0.0; its mask must be kept.
        masks["fc"][0, 0] = True
        state["fc.weight"][0, 0] = -0.0
        add(library, 40, state, masks)
        found = Library.open(library.path).load_state(40)
        assert found.keys() == state.keys()
        for key, value in state.items():
            assert found[key].dtype == value.dtype
            assert found[key].shape == value.shape
        kept = masks["fc"]
        assert found["fc.weight"][kept].numpy().tobytes() == state["fc.weight"][kept].numpy().tobytes()
        assert found["norm.num_batches_tracked"].item() == 12345678901
        # The sign of a removed weight's zero is not kept: 0.0 * mask may be -0.0.
        assert all(torch.equal(found[key], state[key]) for key in state)
        restored = library.load_masks(40, found)
        assert all(torch.equal(restored[name], mask) for name, mask in masks.items())

    def test_pruned_weights_take_no_room(self, tmp_path):
        library = Library.create(tmp_path, manifest())
        state, masks = random_state(0, 0.25)
        record = add(library, 25, state, masks)
        stored = load_file(tmp_path / record.file)
        assert stored["fc.weight.remaining"].shape == (int(masks["fc"].sum()),)
        assert stored["fc.weight.mask"].numel() == 2
        assert "fc.weight" not in stored

    def test_the_manifest_comes_back(self, tmp_path):
        made = Library.create(tmp_path, manifest(excluded_layers=("fc",), mean=None))
        add(made, DENSE, *random_state(0, 1.0))
        add(made, 40, *random_state(1))
        add(made, 80, *random_state(2))
        opened = Library.open(tmp_path)
        assert opened.manifest == made.manifest
        assert opened.levels == (100, 80, 40)
        assert [layer.name for layer in opened.manifest.compressed_layers] == ["conv"]
        assert opened.manifest.num_classes == 3
        assert opened.record(40).sha256 == sha256_of_file(tmp_path / "level_040.safetensors")
        assert opened.record(40).remaining == {name: int(mask.sum()) for name, mask in random_state(1)[1].items()}
        assert opened.dense_accuracy == 0.5

    def test_large_networks_and_images_are_fine(self, tmp_path):
        three = (0.5, 0.5, 0.5)
        names = tuple(map(str, range(100_000)))
        large = manifest(input_shape=(3, 1000, 1000), mean=three, std=three, class_names=names)
        Library.create(tmp_path, large)
        assert Library.open(tmp_path).manifest == large

    def test_equal_states_make_equal_files(self, tmp_path):
        one, other = (Library.create(tmp_path / name, manifest()) for name in "ab")
        assert add(one, 40, *random_state(3)).sha256 == add(other, 40, *random_state(3)).sha256

    def test_a_level_added_again_replaces_the_first(self, tmp_path):
        library = Library.create(tmp_path, manifest())
        add(library, 40, *random_state(0))
        second, masks = random_state(1)
        add(library, 40, second, masks)
        assert Library.open(tmp_path).levels == (40,)
        assert torch.equal(Library.open(tmp_path).load_state(40)["fc.weight"], second["fc.weight"])

    def test_digest_depends_on_content_alone(self):
        state, _ = random_state(0)
        again = dict(reversed(list(random_state(0, layout=torch.channels_last)[0].items())))
        assert state_digest(state) == state_digest(again)
        again["conv.bias"] = again["conv.bias"] + 1
        assert state_digest(state) != state_digest(again)


class TestWrong:
    @pytest.fixture
    def path(self, tmp_path):
        library = Library.create(tmp_path / "library", manifest())
        add(library, 80, *random_state(0))
        add(library, 40, *random_state(1))
        return library.path

    def edit(self, path, change):
        file = path / MANIFEST
        values = json.loads(file.read_text())
        change(values)
        file.write_text(json.dumps(values))

    def refused(self, path, words, percent=40):
        with pytest.raises(UserError, match=words) as error:
            Library.open(path).load_state(percent)
        message = str(error.value)
        assert "\n" not in message
        assert message.startswith("expected ")
        assert ", found " in message

    def test_no_library(self, tmp_path):
        self.refused(tmp_path / "nowhere", "expected the manifest of a library at .*nowhere")

    @pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 0, "1", None])
    def test_another_format_version(self, path, version):
        self.edit(path, lambda values: values.update(format_version=version))
        self.refused(path, f"expected a library of format version {FORMAT_VERSION} at .*, found {version!r}")

    def test_a_manifest_that_is_none(self, path):
        (path / MANIFEST).write_text("[1, 2]")
        self.refused(path, "found 'list'")
        (path / MANIFEST).write_text('{"format_version"')
        self.refused(path, "cannot be read as JSON")

    @pytest.mark.parametrize(
        "key", [field.name for field in dataclasses.fields(Manifest) if field.default is dataclasses.MISSING]
    )
    def test_an_entry_that_is_missing(self, path, key):
        self.edit(path, lambda values: values.pop(key))
        self.refused(path, f"expected a complete manifest at .*{key}")

    @pytest.mark.parametrize(
        "change",
        [
            lambda v: v.update(layers=[{"name": "conv"}]),
            lambda v: v.update(layers=3),
            lambda v: v.update(levels=[{"percent": 40}]),
            lambda v: v["levels"][0].update(epochs=True),
            lambda v: v["layers"][0].update(in_channels=1.5),
            lambda v: v.update(class_names=["a", 2]),
        ],
    )
    def test_an_entry_that_is_wrong(self, path, change):
        self.edit(path, change)
        self.refused(path, "expected a complete manifest at .* with (an? .* as|an entry) [a-z_]+.*, found ")

    def test_an_image_without_a_side(self, path):
        self.edit(path, lambda values: values.update(input_shape=[1, 2]))
        self.refused(path, "expected channels, height and width as input_shape, found")

    @pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/b"])
    def test_a_level_outside_the_folder(self, path, name):
        self.edit(path, lambda values: values["levels"][0].update(file=name))
        self.refused(path, "a file name without folders")

    def test_a_level_that_is_not_there(self, path):
        self.refused(path, "expected a level of 80 %, 40 % in .*, found 50 %", percent=50)

    def test_a_missing_file(self, path):
        (path / "level_040.safetensors").unlink()
        self.refused(path, "expected the weights of level 40 % at .*, found no such file")

    def test_a_changed_file(self, path):
        file = path / "level_040.safetensors"
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        self.refused(path, "the checksum .* of the manifest, found")

    def test_a_swapped_file(self, path):
        shutil.copy(path / "level_080.safetensors", path / "level_040.safetensors")
        self.refused(path, "changed or swapped")

    def test_a_file_of_another_kind_that_the_manifest_vouches_for(self, path):
        file = path / "level_040.safetensors"
        file.write_bytes(b"not weights at all")
        self.edit(path, lambda values: values["levels"][1].update(sha256=sha256_of_file(file)))
        self.refused(path, "found a file that cannot be read")

    def test_a_broken_library_is_left_as_it_is(self, path):
        file = path / "level_040.safetensors"
        file.write_bytes(b"broken")
        before = {entry.name: entry.read_bytes() for entry in path.iterdir()}
        self.refused(path, "changed or swapped")
        assert {entry.name: entry.read_bytes() for entry in path.iterdir()} == before
