from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from torch import nn

from emomc.common.errors import UserError
from emomc.data.batches import ResidentLoader
from emomc.data.config import DataConfig
from emomc.data.splits import describe_data, load_split
from emomc.library.data_sources import build_data
from emomc.lightning_modules import image_data

SILENT = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
}


class Watcher(LightningModule):
    """Records the batches that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.seen: dict[str, list[torch.Tensor]] = {"train": [], "validation": [], "labels": []}

    def training_step(self, batch, batch_index):
        self.seen["train"].append(batch[0])
        self.seen["labels"].append(batch[1])
        return batch[0].mean() * self.scale

    def validation_step(self, batch, batch_index):
        self.seen["validation"].append(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for part, count in (("train", 10), ("test", 5)):
        for name in ("a", "b"):
            (base / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(base / part / name / f"{number}.png")
    return base


def of_folder(folder: Path, **options):
    return build_data(DataConfig(dataset=f"imagefolder:{folder}", **options))


def test_splits_of_digits_are_apart_and_normalised():
    data = build_data(DataConfig())
    parts = {split: load_split(data, split) for split in ("train", "validation", "test")}
    sizes = {split: len(labels) for split, (_, labels) in parts.items()}
    assert sizes == {"train": 1150, "validation": 288, "test": 359}
    for images, labels in parts.values():
        assert images.dtype == torch.float32
        assert labels.dtype == torch.int64
        assert labels.bincount(minlength=10).min() >= 28
        assert abs(images.mean().item()) < 0.05
        assert abs(images.std().item() - 1) < 0.05
    rows = [{image.numpy().tobytes() for image in images} for images, _ in parts.values()]
    assert not rows[0] & rows[1]
    assert not (rows[0] | rows[1]) & rows[2]
    again = load_split(build_data(DataConfig()), "validation")[0]
    assert torch.equal(again, parts["validation"][0])
    assert not torch.equal(load_split(build_data(DataConfig(seed=1)), "validation")[0], again)


def test_the_validation_share_is_an_option():
    data = build_data(DataConfig(validation_fraction=0.5))
    assert len(load_split(data, "validation")[1]) == pytest.approx(1438 / 2, abs=5)


def test_facts_of_digits():
    facts = describe_data(build_data(DataConfig()))
    assert facts.input_shape == (1, 32, 32)
    assert facts.num_classes == 10
    assert facts.class_names == tuple("0123456789")
    assert facts.mean is not None
    assert len(facts.mean) == 1


def test_pixels_are_normalised_by_channel(folder):
    data = of_folder(folder)
    raw, _ = data.dataset.test[torch.arange(10)]
    expected = (raw.double() / 255 - torch.tensor(data.mean).view(3, 1, 1)) / torch.tensor(data.std).view(3, 1, 1)
    assert torch.allclose(load_split(data, "test")[0].double(), expected, atol=1e-6)


def test_images_first_seen_in_validation_can_be_trained_on(folder):
    data = of_folder(folder, batch_size=4)
    trainer = Trainer(max_epochs=1, **SILENT)
    trainer.validate(Watcher(), data, verbose=False)
    images, _ = next(iter(data.val_dataloader()))
    assert not images.is_inference()
    trainer.fit(Watcher(), data)


@pytest.mark.parametrize("augment", [True, False])
def test_lightning_trains_on_augmented_images_and_validates_on_plain_ones(folder, augment):
    data = of_folder(folder, batch_size=4, augment=augment)
    watcher = Watcher()
    trainer = Trainer(max_epochs=2, **SILENT)
    trainer.fit(watcher, data)
    plain, labels = load_split(data, "train")
    known = {image.numpy().tobytes(): int(label) for image, label in zip(plain, labels, strict=True)}
    seen = torch.cat(watcher.seen["train"])
    assert len(seen) == 2 * len(plain)
    unchanged = [image.contiguous().numpy().tobytes() in known for image in seen]
    assert all(unchanged) is not augment
    if not augment:
        of_labels = [known[image.contiguous().numpy().tobytes()] for image in seen]
        assert of_labels == torch.cat(watcher.seen["labels"]).tolist()
        # Lightning has told the loader the epoch.
        assert not torch.equal(seen[: len(plain)], seen[len(plain) :])
    validation = load_split(data, "validation")[0]
    assert torch.equal(torch.cat(watcher.seen["validation"])[-len(validation) :], validation)


def test_streamed_batches_equal_resident_ones(folder):
    batches = {}
    for cache in ("always", "never"):
        data = of_folder(folder, batch_size=4, cache=cache)
        assert data.is_resident("train") is (cache == "always")
        watcher = Watcher()
        torch.manual_seed(0)
        Trainer(max_epochs=2, **SILENT).fit(watcher, data)
        batches[cache] = [*watcher.seen["train"], *watcher.seen["labels"], *watcher.seen["validation"]]
        batches[cache] += load_split(data, "test")
    assert all(torch.equal(one, other) for one, other in zip(batches["always"], batches["never"], strict=True))


def test_workers_stream_the_same_batches(folder):
    one, other = (list(of_folder(folder, cache="never", num_workers=workers).train_dataloader()) for workers in (0, 2))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(one, other, strict=True))


def test_auto_streams_what_is_above_the_limit(folder, monkeypatch: pytest.MonkeyPatch):
    decoded_bytes = 30 * 3 * 8 * 8
    monkeypatch.setattr(image_data, "RESIDENT_LIMIT_BYTES", decoded_bytes)
    assert isinstance(of_folder(folder).train_dataloader(), ResidentLoader)
    monkeypatch.setattr(image_data, "RESIDENT_LIMIT_BYTES", decoded_bytes - 1)
    assert not isinstance(of_folder(folder).train_dataloader(), ResidentLoader)


USERS = """
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

class Mine(LightningDataModule):
    num_classes = 3
    top = 3
    fill = 0.25
    count = 7

    def __init__(self, batch_size, data_dir="nowhere"):
        super().__init__()
        self.batch_size, self.data_dir = batch_size, data_dir

    def setup(self, stage):
        labels = torch.arange(self.count) % self.top
        self.images = TensorDataset(torch.full((self.count, 2, 4, 5), self.fill), labels)

    def loader(self):
        return DataLoader(self.images, batch_size=self.batch_size)

    train_dataloader = val_dataloader = test_dataloader = loader

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch[0] * 2, batch[1]

class Named(Mine):
    class_names = ["x", "y", "z"]
    mean, std = [0.5, 0.5], [1, 1]

class Uncounted(Mine):
    num_classes = None

class Outside(Mine):
    top = 4

class NotFinite(Mine):
    fill = float("nan")

class Empty(Mine):
    count = 0

class Whole(Mine):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch[0].int(), batch[1]

class Three(Mine):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return *batch, batch

class Unnamed(Mine):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return {"picture": batch[0], "label": batch[1]}

class Twice(Mine):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return {"image": batch[0], "img": batch[0], "label": batch[1]}

class Mapped(Mine):
    def on_before_batch_transfer(self, batch, dataloader_idx):
        return batch[0] + 1, batch[1]

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return {"pixel_values": batch[0].half(), "labels": batch[1].int(), "index": batch[1]}

class Double(Mine):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return [batch[0].double(), batch[1].to(torch.uint8)]

class NoModule:
    pass
"""


@pytest.fixture
def users(tmp_path: Path) -> str:
    file = tmp_path / "users.py"
    file.write_text(USERS)
    return str(file)


def test_a_user_s_module_gets_what_its_constructor_names(users):
    data = build_data(DataConfig(dataset=f"{users}:Mine", batch_size=3, data_dir="there"))
    assert isinstance(data, LightningDataModule)
    assert (data.batch_size, data.data_dir) == (3, "there")
    facts = describe_data(data)
    assert facts.input_shape == (2, 4, 5)
    assert facts.class_names == ("0", "1", "2")
    assert facts.mean is None
    images, labels = load_split(data, "validation")
    assert images.shape == (7, 2, 4, 5)
    assert torch.equal(images, torch.full((7, 2, 4, 5), 0.5))
    assert labels.tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_a_user_s_module_may_say_more(users):
    facts = describe_data(build_data(DataConfig(dataset=f"{users}:Named")))
    assert facts.class_names == ("x", "y", "z")
    assert (facts.mean, facts.std) == ((0.5, 0.5), (1.0, 1.0))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Uncounted", "expected Uncounted.num_classes, a whole number of at least 2, found None"),
        ("Outside", r"expected test labels in 0\.\.2, found 3"),
        ("NotFinite", "expected finite test images, found a NaN or an infinity in number 0"),
        ("Empty", "expected at least one test image, found none"),
        ("Whole", "expected test images as a float tensor .* found torch.int32"),
        ("Three", "expected test batches of two tensors, images and labels, .* found a tuple of Tensor, Tensor, list"),
        ("Unnamed", "expected test batches of two tensors, .* found a mapping of picture, label"),
        ("Twice", "expected test batches of two tensors, .* found a mapping of image, img, label"),
        ("NoModule", "to be a LightningDataModule, or a function that returns one or datasets, found 'NoModule'"),
    ],
)
def test_a_wrong_module_gets_one_line(users, name, message):
    with pytest.raises(UserError, match=message) as raised:
        load_split(build_data(DataConfig(dataset=f"{users}:{name}")), "test")
    assert "\n" not in str(raised.value)


def test_batches_may_be_mappings_of_other_types_and_go_through_both_hooks(users):
    images, labels = load_split(build_data(DataConfig(dataset=f"{users}:Mapped")), "train")
    assert torch.equal(images, torch.full((7, 2, 4, 5), 1.25))
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    images, labels = load_split(build_data(DataConfig(dataset=f"{users}:Double")), "train")
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
