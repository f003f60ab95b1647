"""The data module of the built-in datasets, of folders of images and of users' datasets."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from emomc.data.augmentation import augmented
from emomc.data.batches import EpochBatches, ResidentLoader
from emomc.data.config import Augmentation, DataConfig
from emomc.data.datasets import load_dataset
from emomc.data.held import HeldImages
from emomc.data.image_dataset import ImageDataset, stratified_split
from emomc.data.images import ArrayImages, Images
from emomc.data.splits import DataFacts, KnownSplits, Split, no_images

RESIDENT_LIMIT_BYTES = 4 * 2**30
"""With ``cache="auto"``, image files that take more than this when decoded are streamed."""

FLOATS_LIMIT_BYTES = 2**30
"""Images to evaluate on that take more than this as floats are held as pixels, and made floats batch by batch."""

_CPU = torch.device("cpu")

Loader = ResidentLoader | DataLoader[tuple[Tensor, Tensor]]


class ImageDataModule(LightningDataModule, KnownSplits):
    """Loads batches, and normalises and augments images of pixels on the device.

    With several devices, each trains on its share of the images but validates and tests on all of them, so that every
    device knows the exact accuracy.

    Args:
        config: what to load and how.
        download: fetch a dataset that is missing into ``config.data_dir``.
        root: folder that relative paths of the settings start from.
        samples: what a user's function returned; see ``load_samples``.
        class_names: all classes of a network, in the order of its outputs; None: see ``load_dataset``.

    Raises:
        UserError: at the first use of the images: see ``load_dataset``.
    """

    def __init__(
        self,
        config: DataConfig,
        *,
        download: bool = True,
        root: Path = Path(),
        samples: Any = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self._load = functools.partial(
            load_dataset, config, download=download, root=root, samples=samples, class_names=class_names
        )
        self._dataset: ImageDataset | None = None
        self._parts: dict[Split, tuple[Images, Tensor]] = {}
        self._splits: dict[Split, Images] = {}
        self._constants: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def prepare_data(self) -> None:
        """Download what is missing; Lightning calls this in one process."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Load the images, or find their files, at the first call."""
        if self._dataset is None:
            dataset = self._load()
            self._parts = _parts(dataset, self.config)
            self._dataset = dataset

    @property
    def dataset(self) -> ImageDataset:
        """The images, and facts about them."""
        self.setup()
        assert self._dataset is not None  # set by setup
        return self._dataset

    @property
    def facts(self) -> DataFacts:
        """Facts of the data that networks and exports need."""
        return DataFacts(self.input_shape, self.num_classes, self.class_names, self.mean, self.std)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        return self.dataset.train.image_shape

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, by label."""
        return self.dataset.class_names

    @property
    def mean(self) -> tuple[float, ...] | None:
        """Mean per channel, of pixels in 0..1, used to normalise images; None: they are floats, used as they are."""
        return self.dataset.mean

    @property
    def std(self) -> tuple[float, ...] | None:
        """Standard deviation per channel, of pixels in 0..1, used to normalise images; None: as for ``mean``."""
        return self.dataset.std

    def is_resident(self, split: Split) -> bool:
        """Return whether all decoded images of a split are held in memory; otherwise they are streamed."""
        if self.config.cache != "auto":
            return self.config.cache == "always"
        self.setup()
        if isinstance(self.dataset.train, ArrayImages):
            return True
        if self._is_ready and split == "train":
            # A user's transform may draw random numbers for each epoch.
            return False
        images = sum(len(indices) for _, indices in self._parts.values())
        decoded_bytes = images * math.prod(self.input_shape) * (4 if self._is_ready else 1)
        return decoded_bytes <= RESIDENT_LIMIT_BYTES

    @property
    def _is_ready(self) -> bool:
        """Whether the images are floats, which a network takes as they are."""
        return self.mean is None

    def train_dataloader(self) -> Loader:
        """Return batches of this device's share of the training images, in a new order each epoch."""
        rank, devices = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        return self._loader("train", self._device, shuffle=True, rank=rank, world_size=devices)

    def val_dataloader(self) -> Loader:
        """Return batches of all validation images, always in the same order."""
        return self._loader("validation", self._device, shuffle=False)

    def test_dataloader(self) -> Loader:
        """Return batches of all test images, always in the same order."""
        return self._loader("test", self._device, shuffle=False)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalise a batch of pixels on its device; augment it first in training."""
        images, labels = batch
        if self._is_ready:
            return images, labels
        if self.trainer is not None and self.trainer.training:
            kind = cast(Augmentation, self.config.augment)  # the settings have made a name of true and false
            images = augmented(images, kind, self.shift_pixels, mirror=self.dataset.is_colour)
        return self.normalise(images), labels

    @property
    def shift_pixels(self) -> int:
        """Largest shift of the augmentation, pixels: 4 for 32x32 colour images, 2 for grey ones."""
        return self.input_shape[2] // (8 if self.dataset.is_colour else 16)

    def normalise(self, images: Tensor) -> Tensor:
        """Return float32 (x / 255 - mean) / std of uint8 images of shape (n, c, h, w); floats as they are."""
        if self.mean is None or self.std is None:
            return images
        # One multiplication and one subtraction per pixel. To copy the constants for each batch would wait for the GPU.
        if images.device not in self._constants:
            std, mean = (torch.tensor(values).view(-1, 1, 1) for values in (self.std, self.mean))
            self._constants[images.device] = (1 / (255 * std)).to(images.device), (mean / std).to(images.device)
        factor, offset = self._constants[images.device]
        return images * factor - offset

    def has_split(self, split: Split) -> bool:
        """Return whether there are images of a split."""
        self.setup()
        return split in self._parts

    def load_resident(self, *splits: Split) -> None:
        """Decode the images of splits that are kept in memory, so that one that cannot be decoded is found early.

        Raises:
            UserError: an image cannot be decoded; it is named.
        """
        for split in filter(self.has_split, splits):
            if self.is_resident(split):
                self._images(split)

    def load_split(self, split: Split) -> tuple[Tensor, Tensor]:
        """Return all images of a split, normalised, float32, shape (n, c, h, w), and their int64 labels."""
        labels = self._images(split).labels
        images = torch.empty((len(labels), *self.input_shape))
        start = 0
        for raw, _ in self._loader(split, _CPU, shuffle=False):
            images[start : start + len(raw)] = self.normalise(raw)
            start += len(raw)
        return images, labels

    def hold_split(self, split: Split) -> HeldImages:
        """Return all images of a split: floats, or pixels if floats take more than ``FLOATS_LIMIT_BYTES``."""
        count = len(self._part(split)[1])
        if self._is_ready or 4 * count * math.prod(self.input_shape) <= FLOATS_LIMIT_BYTES:
            return HeldImages(*self.load_split(split))
        images = self._images(split).decoded()
        return HeldImages(images.images, images.labels, self.normalise)

    def load_some(self, split: Split, count: int) -> tuple[Tensor, Tensor]:
        """Return at most ``count`` images of a split, spread evenly over it; otherwise as ``load_split``."""
        source, indices = self._part(split)
        with torch.random.fork_rng(devices=[]):
            # A user's transform may draw random numbers.
            torch.manual_seed(0)
            raw, labels = source[indices[torch.linspace(0, len(indices) - 1, min(count, len(indices))).long()]]
        return self.normalise(raw), labels

    def _part(self, split: Split) -> tuple[Images, Tensor]:
        """Return images, not decoded, and the indices of those of a split.

        Raises:
            UserError: there are none.
        """
        if not self.has_split(split):
            raise no_images(split)
        return self._parts[split]

    def _images(self, split: Split) -> Images:
        """Return a split's images, decoded at the first call if kept in memory: a search decodes no training images."""
        if split not in self._splits:
            source, indices = self._part(split)
            # A validating Trainer calls this in inference mode, but the images kept here are also used for training.
            with torch.inference_mode(False):
                part = source.subset(indices)
                self._splits[split] = part.decoded() if self.is_resident(split) else part
        return self._splits[split]

    @property
    def _device(self) -> torch.device:
        """The Trainer's device."""
        return _CPU if self.trainer is None else self.trainer.strategy.root_device

    def _loader(
        self, split: Split, device: torch.device, *, shuffle: bool, rank: int = 0, world_size: int = 1
    ) -> Loader:
        images = self._images(split)
        size, seed = self.config.batch_size, self.config.seed
        batches = EpochBatches(len(images), size, shuffle=shuffle, seed=seed, rank=rank, world_size=world_size)
        if self.is_resident(split):
            return ResidentLoader(_moved(images, device), batches)
        workers = self.config.num_workers
        return DataLoader(
            images,  # type: ignore[arg-type]  # read by a batch of indices at a time
            batch_size=None,
            sampler=batches,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            # It seeds the workers. Without it the loader would draw from torch's generator, which augmentation uses.
            generator=torch.Generator().manual_seed(seed),
        )


def _parts(dataset: ImageDataset, config: DataConfig) -> dict[Split, tuple[Images, Tensor]]:
    """Return split -> images, and the indices of those of the split; some training images may be held out."""
    if dataset.validation is None:
        fraction = config.validation_fraction or dataset.validation_fraction
        kept, held_out = stratified_split(dataset.train.labels, fraction, config.seed)
        parts: dict[Split, tuple[Images, Tensor]] = {
            "train": (dataset.train, kept),
            "validation": (dataset.train, held_out),
        }
    else:
        parts = {"train": _whole(dataset.train), "validation": _whole(dataset.validation)}
    return parts if dataset.test is None else {**parts, "test": _whole(dataset.test)}


def _whole(images: Images) -> tuple[Images, Tensor]:
    return images, torch.arange(len(images))


def _moved(images: Images, device: torch.device) -> Images:
    """Return images on a GPU, if they take at most half of its free memory; else where they are."""
    if device.type != "cuda" or not isinstance(images, ArrayImages):
        return images
    free, _ = torch.cuda.mem_get_info(device)
    return images.to(device) if images.images.nbytes <= free // 2 else images
