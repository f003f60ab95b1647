"""Pixels as a viewer shows them and as trained weights expect them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images
from torchvision.models import get_weight

from emomc.common.errors import UserError
from emomc.data.config import DataConfig
from emomc.data.datasets import load_dataset
from emomc.data.images import read_header
from emomc.data.preprocessing import PRESETS, Preprocessing, pixels_of, preprocessing_of, upright_size
from emomc.lightning_modules.image_data import ImageDataModule

SIDES = st.integers(1, 60)


def photographs() -> list[Image.Image]:
    """Real photographs of several shapes."""
    whole = [Image.fromarray(image) for image in load_sample_images().images]
    return [image.crop(box) for image in whole for box in ((0, 0, 640, 427), (50, 20, 350, 420), (100, 100, 400, 330))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs; tests read it and never change it."""
    folder = tmp_path_factory.mktemp("photographs")
    for part in ("train", "test"):
        for label in "ab":
            (folder / part / label).mkdir(parents=True)
            for number, image in enumerate(photographs()):
                image.save(folder / part / label / f"{number}.png")
    return folder


def module_of(folder: Path, **options) -> ImageDataModule:
    return ImageDataModule(DataConfig(dataset=f"imagefolder:{folder}", **options))


class TestWhatWeightsExpect:
    @pytest.mark.parametrize(
        "weights",
        ["ResNet18_Weights.IMAGENET1K_V1", "EfficientNet_B0_Weights.IMAGENET1K_V1", "ViT_B_16_Weights.DEFAULT"],
    )
    def test_pixels_are_those_of_torchvisions_transforms(self, folder, weights):
        transforms = get_weight(weights).transforms()
        found, _ = module_of(folder, preset=f"torchvision:{weights}").load_split("test")
        expected = torch.stack([transforms(image) for image in photographs()])
        torch.testing.assert_close(found[: len(expected)], expected, rtol=0, atol=2e-6)

    def test_imagenet_is_what_resnet18_was_evaluated_with(self):
        preset = preprocessing_of(DataConfig(preset="torchvision:ResNet18_Weights.IMAGENET1K_V1"))
        assert preset == PRESETS["imagenet"] == preprocessing_of(DataConfig(preset="imagenet"))

    def test_of_timm_is_what_timm_states(self):
        found = preprocessing_of(DataConfig(preset="timm:resnet18.a1_in1k"))
        stated = timm.get_pretrained_cfg("resnet18.a1_in1k")
        assert (found.mean, found.std, found.interpolation) == (stated.mean, stated.std, stated.interpolation)
        assert found.crop == stated.input_size[1:]
        assert found.resize == int(224 / stated.crop_pct)

    def test_a_setting_takes_the_place_of_the_presets(self):
        found = preprocessing_of(DataConfig(preset="imagenet", crop=192, interpolation="bicubic"))
        assert (found.resize, found.crop, found.interpolation) == (256, (192, 192), "bicubic")
        found = preprocessing_of(DataConfig(preset="imagenet", image_size="64x48"))
        assert (found.size, found.resize, found.crop) == ((64, 48), None, None)
        assert found.mean == PRESETS["imagenet"].mean

    @pytest.mark.parametrize(
        ("preset", "message"),
        [
            ("imagnet", "expected a preset among imagenet, cifar10, mnist, timm:NAME or torchvision:WEIGHTS"),
            ("timm:no_such_model", "of a model of timm, found no_such_model"),
            ("torchvision:Nothing.DEFAULT", "expected a preset torchvision:WEIGHTS of a classifier"),
        ],
    )
    def test_an_unknown_one_is_one_line(self, preset, message):
        with pytest.raises(UserError, match=message) as raised:
            preprocessing_of(DataConfig(preset=preset))
        assert "\n" not in str(raised.value)

    def test_they_hold_for_the_projects_own_datasets(self):
        found = load_dataset(DataConfig(preset="imagenet", image_size="40x48"))
        assert found.train.image_shape == (3, 40, 48)
        assert found.mean == PRESETS["imagenet"].mean
        images, _ = found.train[torch.arange(3)]
        assert torch.equal(images[:, 0], images[:, 2])

    @pytest.mark.parametrize(
        "setting", [{"preset": "imagenet"}, {"crop": 20}, {"resize": 40}, {"interpolation": "bicubic"}]
    )
    def test_but_not_how_a_folder_is_resized(self, setting):
        with pytest.raises(UserError, match="expected resize, crop and interpolation for images of a folder alone"):
            load_dataset(DataConfig(**setting))

    def test_a_mean_of_another_number_of_channels_is_refused(self, folder):
        with pytest.raises(UserError, match="expected a mean of 3 numbers, one a channel, found 1"):
            module_of(folder, image_size=32, mean=(0.5,), std=(0.5,)).setup()

    def test_a_crop_larger_than_an_image_is_refused(self, folder):
        with pytest.raises(UserError, match=r"at least the crop of 500x500 pixels .*set a larger --resize"):
            module_of(folder, crop=500).setup()


@settings(deadline=None, max_examples=50)
@given(SIDES, SIDES, st.integers(1, 40), st.sampled_from([None, (3, 2), (9, 9)]))
def test_the_size_that_is_foretold_is_that_of_the_image(height, width, resize, crop):
    preprocessing = Preprocessing(resize=resize, crop=crop)
    image = Image.new("L", (width, height))
    try:
        size = preprocessing.size_of(height, width)
    except UserError:
        return
    found = preprocessing.apply(image)
    assert (found.height, found.width) == size


class TestAsAViewerShowsIt:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
    def test_a_turned_image(self, tmp_path, orientation, suffix):
        pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8)
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"turned.{suffix}"
        Image.fromarray(pixels).save(path, exif=exif)
        with Image.open(path) as image:
            size = upright_size(image)
            assert read_header(path) == (3, *size)
            found = pixels_of(image, 3)
            expected = ImageOps.exif_transpose(image)
        assert (found.height, found.width) == size == (expected.height, expected.width)
        assert np.array_equal(np.array(found), np.array(expected))

    def test_sixteen_bits_become_eight(self, tmp_path):
        values = np.array([[0, 128, 129, 257, 40_000, 65_535]], dtype=np.uint16)
        Image.fromarray(values).save(tmp_path / "deep.png")
        with Image.open(tmp_path / "deep.png") as image:
            assert np.array(pixels_of(image, 1)).tolist() == [[0, 0, 1, 1, 156, 255]]
        assert read_header(tmp_path / "deep.png") == (1, 1, 6)

    def test_a_palette_is_in_colour(self, tmp_path):
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)).quantize(16)
        image.save(tmp_path / "palette.png")
        with Image.open(tmp_path / "palette.png") as read:
            assert read.mode == "P"
            assert np.array_equal(np.array(pixels_of(read, 3)), np.array(image.convert("RGB")))

    @pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
    def test_channels_can_be_set(self, folder, channels, mode):
        found = module_of(folder, image_size=16, channels=channels)
        assert found.input_shape == (channels, 16, 16)
        (first, *_) = photographs()
        expected = np.array(first.convert(mode).resize((16, 16), Image.Resampling.BILINEAR))
        raw, _ = found.dataset.train[torch.tensor([0])]
        assert np.array_equal(raw[0].permute(1, 2, 0).squeeze(-1).numpy(), expected)
