"""Try out a network and its data before anything is written: do once what training and search will do."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from emomc.common.errors import UserError, first_line
from emomc.compression.criteria import CRITERIA
from emomc.compression.pruning import prune_by_magnitude
from emomc.data.splits import DataFacts, Split, has_test_images, load_some
from emomc.library.level_file import pack_level, unpack_level
from emomc.lightning_modules.classifier import Classifier
from emomc.lightning_modules.image_data import ImageDataModule
from emomc.networks.answer import select_answer
from emomc.networks.equivalence import TOLERANCE, checked_graph, deviation
from emomc.networks.graph import NetworkGraph
from emomc.networks.state import load_unique, unique_state
from emomc.pretraining.config import PretrainingConfig
from emomc.pretraining.modules import dense_module, level_module
from emomc.runtime.optimizers import make_optimizer

_IMAGES = 64
_BATCH = 8


def try_out(network: nn.Module, graph: NetworkGraph, data: pl.LightningDataModule, config: PretrainingConfig) -> None:
    """Load some images of each split, and do once what training and search will do.

    The network is run, trained for one step, pruned, written and read, and run as a candidate. It is not changed.

    Raises:
        UserError: images cannot be loaded, or one of these steps fails.
    """
    if isinstance(data, ImageDataModule):
        data.load_resident("train", "validation", "test")
    else:
        _check_length(data)
    # A search of the library will measure on the test images, if there are any.
    splits: tuple[Split, ...] = ("train", "validation", *(("test",) if has_test_images(data) else ()))
    for split in splits:
        images, labels = load_some(data, split, _IMAGES)
        with _unseeded():
            _try_running(copy.deepcopy(network).eval(), images[:1], split, config.network_output)
    images, labels = images[:_BATCH], labels[:_BATCH]
    with _unseeded():
        tried = copy.deepcopy(network)
        _train_one_step(tried, images, labels, graph.output_shape[0], config)
        if config.robust:
            _fine_tune_one_step(copy.deepcopy(tried), images, labels, graph, config)
        # A search makes its candidates of what was read.
        checked_graph(graph, _try_level(tried, graph, config), images, config.network_output)


def _check_length(data: pl.LightningDataModule) -> None:
    """Check that the batches of an epoch can be counted, on which schedules depend.

    Raises:
        UserError: they cannot.
    """
    load_some(data, "train", 1)  # sets the module up
    try:
        len(data.train_dataloader())
    except (TypeError, NotImplementedError):
        raise UserError(
            f"expected a train_dataloader of {type(data).__name__} with a length, on which learning rates depend, "
            f"found none: let the dataset have a __len__"
        ) from None


def trains(network: nn.Module, config: PretrainingConfig, facts: DataFacts) -> bool:
    """Return whether a network can be trained in the memory format of the settings.

    A step of training runs on random images, and their scores are those of the contiguous format.
    """
    images = torch.randn(_BATCH, *facts.input_shape, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(_BATCH) % facts.num_classes
    try:
        with _unseeded():
            _train_one_step(copy.deepcopy(network), images, labels, facts.num_classes, config)
    except UserError:
        return False
    formats = (torch.contiguous_format, torch.channels_last if config.channels_last else torch.contiguous_format)
    expected, found = (_scores_in(memory_format, network, images, config.network_output) for memory_format in formats)
    return deviation(found, expected) <= TOLERANCE


@torch.no_grad()
def _scores_in(memory_format: torch.memory_format, network: nn.Module, images: Tensor, output: str | None) -> Tensor:
    moved = copy.deepcopy(network).eval().to(memory_format=memory_format)
    return select_answer(moved(images.contiguous(memory_format=memory_format)), output)


@contextmanager
def _unseeded() -> Iterator[None]:
    """Leave torch's random numbers as they were: a trial does not change what is trained."""
    with torch.random.fork_rng(devices=[]):
        yield


def _try_running(network: nn.Module, images: Tensor, split: str, output: str | None) -> None:
    name = type(network).__name__
    before = {key: value.clone() for key, value in unique_state(network).items()}
    try:
        with torch.no_grad():
            scores, again = (select_answer(network(images), output) for _ in range(2))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"expected a network that takes {split} images of shape {tuple(images.shape[1:])}, found that {name} "
            f"fails on one: {first_line(error)}"
        ) from error
    changed = [key for key, value in unique_state(network).items() if not torch.equal(value, before[key])]
    if changed:
        raise UserError(f"expected {name} in eval mode to keep its weights, found that running it changes {changed[0]}")
    if not scores.is_floating_point() or not bool(scores.isfinite().all()):
        raise UserError(f"expected finite class scores from {name}, found {scores.dtype} {scores[0].tolist()}")
    if deviation(again, scores) > TOLERANCE:
        raise UserError(
            f"expected {name} in eval mode to give the same scores for the same image, found others each time: "
            f"dropout that is always on is the usual cause"
        )


def _train_one_step(
    network: nn.Module, images: Tensor, labels: Tensor, num_classes: int, config: PretrainingConfig
) -> None:
    with _step_of(network, "the first step"):
        module = dense_module(config, network, num_classes).train()
        _step(module, images, labels)


def _fine_tune_one_step(
    network: nn.Module, images: Tensor, labels: Tensor, graph: NetworkGraph, config: PretrainingConfig
) -> None:
    layers = [layer for layer in graph.layers if layer.stored]
    with _step_of(network, "the first step of a robust level"):
        masks = {layer.name: torch.ones_like(network.get_parameter(layer.weight_key)) > 0 for layer in layers}
        module = level_module(config, network, graph.output_shape[0], layers, masks, unique_state(network)).train()
        _step(module, images, labels)


def _step(module: Classifier, images: Tensor, labels: Tensor) -> None:
    optimizer = make_optimizer(module.network, module.recipe)
    with torch.inference_mode(False), torch.enable_grad():
        module.loss(images, labels).backward()
    optimizer.step()


@contextmanager
def _step_of(network: nn.Module, step: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"expected a network that can be trained, found that {type(network).__name__} fails in {step}: "
            f"{first_line(error)}"
        ) from error


def _try_level(network: nn.Module, graph: NetworkGraph, config: PretrainingConfig) -> nn.Module:
    """Prune the network, and write and read it as a level; return what was read."""
    layers = {layer.name: layer.weight_key for layer in graph.layers if layer.stored}
    weights = {name: network.get_parameter(key).detach() for name, key in layers.items()}
    macs = {layer.name: layer.macs for layer in graph.layers if layer.stored}
    criterion = config.criterion if config.criterion in CRITERIA else "layerwise"
    masks = prune_by_magnitude(weights, config.pre_prune_lower_bound, criterion=criterion, macs=macs)
    with torch.no_grad():
        for name, mask in masks.items():
            network.get_parameter(layers[name]).mul_(mask)
    packed = pack_level(unique_state(network), {layers[name]: mask for name, mask in masks.items()})
    read = copy.deepcopy(network)
    load_unique(read, unpack_level(packed))
    return read
