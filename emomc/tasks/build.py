"""Making a user's LightningModule from its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from emomc.common.errors import UserError
from emomc.common.user_code import call_with, load_object

A_MODULE = "a LightningModule"


def build_module(spec: str, arguments: Mapping[str, Any] | None = None) -> pl.LightningModule:
    """Make a LightningModule, with random initial weights from torch's default generator.

    Args:
        spec: ``path/to/file.py:Class`` or ``package.module:Class``; or a function that returns a module.
        arguments: of the constructor.

    Raises:
        UserError: there is no such class, the arguments do not fit it, or it is none of Lightning's.
    """
    thing = load_object(spec, A_MODULE)
    if not callable(thing) or (isinstance(thing, type) and not issubclass(thing, pl.LightningModule)):
        raise UserError(f"expected {spec} to be {A_MODULE}, found {getattr(thing, '__name__', thing)!r}")
    made = call_with(thing, dict(arguments or {}), {}, f"the module {spec}")
    if not isinstance(made, pl.LightningModule):
        raise UserError(f"expected {spec} to make {A_MODULE}, found {type(made).__name__}")
    return made
