"""A user's own task: a LightningModule, its data, and the metric that its validation logs."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator

import pytorch_lightning as pl
from torch import nn

from emomc.common.errors import UserError, UserFact, first_line
from emomc.lightning_modules.candidate import Stopped
from emomc.networks.interface import NetworkInterface
from emomc.networks.joined import SeparatedNetwork
from emomc.tasks.config import TaskConfig
from emomc.tasks.logged_metric import SHARE, is_share_of_samples
from emomc.tasks.network_within import find_network


class UsersTask:
    """What is trained and compressed in place of an image classifier, and the number that its validation gives.

    The module's own steps are used as they are. The network inside it is replaced for the evaluation of candidates.
    """

    def __init__(self, module: pl.LightningModule, data: pl.LightningDataModule, config: TaskConfig) -> None:
        """Take a module and its data.

        Args:
            module: with the network to compress in an attribute; its network is trained in place.
            data: that its Trainer gets.
            config: names of the attribute and of the metric.

        Raises:
            UserError: the network is not found; see ``find_network``.
        """
        if not isinstance(module, pl.LightningModule):
            raise UserError(f"expected a LightningModule with --module, found {type(module).__name__}")
        if not isinstance(data, pl.LightningDataModule):
            raise UserError(
                f"expected a LightningDataModule for a LightningModule of yours, found {type(data).__name__}: name it "
                f"with --dataset path/to/file.py:Class"
            )
        self.module = module
        self.data = data
        self.config = config
        self.attribute = find_network(module, config.network_attribute)
        self._prepared = False
        self.interface: NetworkInterface | None = None
        """Inputs and outputs of the network, where they are more than one tensor each."""

    def prepare_data(self) -> None:
        """Let the module and the data module prepare their data, once; processes may do so at the same time."""
        if not self._prepared:
            with errors_of(f"{self.name} and its data to be prepared"):
                self.data.prepare_data()
                self.module.prepare_data()
            self._prepared = True

    def learn(self, interface: NetworkInterface | None, logged: object) -> None:
        """Take what a trial has found out.

        Args:
            interface: inputs and outputs of the network, where they are more than one tensor each.
            logged: what the module logs as its metric, a number or a metric of torchmetrics.
        """
        self.interface = interface
        config = self.config
        if config.mean_of_samples is None and config.metric_range in (None, SHARE) and is_share_of_samples(logged):
            self.config = dataclasses.replace(config, metric_range=SHARE, mean_of_samples=True)
            warnings.warn(
                f"{self.monitor} is a mean over samples within 0 to 1, {type(logged).__name__} of torchmetrics: "
                f"searches stop candidates early that cannot survive (--mean_of_samples false: they do not).",
                UserFact,
                stacklevel=2,
            )

    @property
    def name(self) -> str:
        """Name of the module's class."""
        return type(self.module).__name__

    @property
    def monitor(self) -> str:
        """Name of the validation metric."""
        return str(self.config.monitor)

    @property
    def network(self) -> nn.Module:
        """The network inside the module."""
        return self.module.get_submodule(self.attribute)

    @contextlib.contextmanager
    def with_network(self, network: nn.Module) -> Iterator[None]:
        """Put another network, a function of one tensor to one tensor, into the module while the block runs."""
        owner, _, last = self.attribute.rpartition(".")
        parent, own = self.module.get_submodule(owner), self.network
        setattr(parent, last, network if self.interface is None else SeparatedNetwork(network, self.interface))
        try:
            yield
        finally:
            setattr(parent, last, own)


@contextlib.contextmanager
def errors_of(what: str) -> Iterator[None]:
    """Turn an error of a user's code into one line.

    Args:
        what: what was expected of it ("Segmenter to train on its first batches").

    Raises:
        UserError: the block has raised an error.
    """
    try:
        yield
    except (UserError, Stopped):
        raise
    except Exception as error:
        raise UserError(f"expected {what}, found: {first_line(error)}") from error
