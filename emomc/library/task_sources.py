"""The user's own task of a library, from its manifest.

User code runs only if the command line or the caller names it, never because a file names it.
"""

from __future__ import annotations

import torch
from pytorch_lightning import LightningDataModule

from emomc.common.errors import UserError
from emomc.common.user_code import source_sha256
from emomc.library.library import Library
from emomc.library.manifest import TaskRecord
from emomc.networks.preparation import make_plain
from emomc.tasks.build import A_MODULE, build_module
from emomc.tasks.config import TaskConfig
from emomc.tasks.users_task import UsersTask


def library_task(library: Library, data: LightningDataModule, named: str | None) -> UsersTask:
    """Return the user's task of a library, its network with arbitrary weights.

    Args:
        library: of such a task.
        data: of the library.
        named: the module as ``path/to/file.py:Class`` or ``package.module:Class``.

    Raises:
        UserError: the module is not named, or is another than the one that made the library.
    """
    manifest, record = library.manifest, task_record(library)
    if named is None:
        raise UserError(f"expected --module {manifest.network}, whose code made this library, found no --module")
    if source_sha256(named, A_MODULE) != manifest.network_source_sha256:
        raise UserError(
            f"expected the module {manifest.network} with the source that made {library.path}, found {named} with "
            f"another source"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build_module(named, manifest.network_args)
    config = TaskConfig(
        module=named,
        network_attribute=record.attribute,
        monitor=record.monitor,
        mode=record.mode,
        metric_range=record.metric_range,
        mean_of_samples=record.mean_of_samples,
        test_monitor=record.test_monitor,
    )
    task = UsersTask(module, data, config)
    task.interface = record.interface
    make_plain(task.network, manifest.input_shape, manifest.form)
    return task


def task_record(library: Library) -> TaskRecord:
    """Return what a library says of its task.

    Raises:
        UserError: it classifies images.
    """
    if library.manifest.task is None:
        raise UserError(f"expected a library of a LightningModule in {library.path}, found one of an image classifier")
    return library.manifest.task
