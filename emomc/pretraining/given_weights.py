"""What a user's trained weights give: their accuracy, and what may be wrong if it is poor."""

from __future__ import annotations

import copy

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from emomc.data.config import DataConfig
from emomc.data.preprocessing import PRESETS, preprocessing_of
from emomc.data.splits import DataFacts, load_some
from emomc.library.data_sources import names_users_data
from emomc.networks.answer import select_answer

# Images that other ways to normalise are tried on.
_IMAGES = 1024
_BATCH = 64
# An accuracy below so many times that of guessing is poor for trained weights.
_TIMES_CHANCE = 3
# Mean and deviation of pixels in -1..1, in 0..1 and in 0..255.
_PLAIN = ((0.5, 0.5), (0.0, 1.0), (0.0, 1 / 255))

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation per channel, of pixels in 0..1."""


def given_weights_line(accuracy: float, data: DataConfig, facts: DataFacts) -> str:
    """Return a line that says how accurate a network with a user's weights is, and how its images were made.

    Args:
        accuracy: validation accuracy, 0..1.
        data: settings of the data.
        facts: of the data.
    """
    return f"The given weights have {100 * accuracy:.2f} % validation accuracy on images {_made(data, facts)}."


def _made(data: DataConfig, facts: DataFacts) -> str:
    channels, height, width = facts.input_shape
    words = [f"of {channels}x{height}x{width}"]
    if not names_users_data(data.dataset):
        preprocessing = preprocessing_of(data)
        if preprocessing.resize is not None:
            words.append(
                f"resized to {preprocessing.resize} pixels at the shorter side ({preprocessing.interpolation})"
            )
        if preprocessing.crop is not None:
            words.append("cut out of the middle")
    if facts.mean is not None and facts.std is not None:
        words.append(f"mean {_numbers(facts.mean)}, deviation {_numbers(facts.std)}")
    return ", ".join(words)


@torch.no_grad()
def doubt_of_given_weights(
    network: nn.Module, accuracy: float, data: pl.LightningDataModule, facts: DataFacts, output: str | None
) -> str | None:
    """Return what may be wrong with the images if a network with a user's weights is hardly better than guessing.

    Args:
        network: with the weights.
        accuracy: its validation accuracy, 0..1.
        data: its data.
        facts: of the data.
        output: which output has the class scores; see ``select_answer``.

    Returns:
        A line that names what other ways to normalise give; None if the accuracy is well above guessing.
    """
    if accuracy >= min(0.5, _TIMES_CHANCE / facts.num_classes):
        return None
    text = (
        f"the given weights have {100 * accuracy:.2f} % validation accuracy, where guessing has "
        f"{100 / facts.num_classes:.2f}: the preprocessing or the order of the classes may not be theirs"
    )
    if facts.mean is None or facts.std is None:
        return text
    images, labels = load_some(data, "validation", _IMAGES)
    mean, std = (_per_channel(values) for values in (facts.mean, facts.std))
    pixels = images * std + mean
    network = copy.deepcopy(network).eval()
    device = next(network.parameters()).device
    found = []
    for name, (other_mean, other_std) in _others(facts).items():
        batches = ((pixels - _per_channel(other_mean)) / _per_channel(other_std)).split(_BATCH)
        scores = torch.cat([select_answer(network(batch.to(device)), output).cpu() for batch in batches])
        found.append((float((scores.argmax(1) == labels).float().mean()), name))
    tried = ", ".join(f"{name} {100 * share:.2f} %" for share, name in sorted(found, reverse=True))
    return f"{text}. On {len(labels)} images other means and deviations give: {tried}"


def _others(facts: DataFacts) -> dict[str, Normalisation]:
    """Return options of the command -> the way to normalise images that they ask for, of those in use."""
    channels = facts.input_shape[0]
    known = [
        (preset.mean, preset.std)
        for preset in PRESETS.values()
        if preset.mean is not None and preset.std is not None and preset.channels == channels
    ]
    plain = [((mean,) * channels, (std,) * channels) for mean, std in _PLAIN]
    ways = {f"--mean {_numbers(mean)} --std {_numbers(std)}": (mean, std) for mean, std in (*known, *plain)}
    return {name: way for name, way in ways.items() if way != (facts.mean, facts.std)}


def _per_channel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1)


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
