"""Turning Lightning's errors about settings into errors for the user."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lightning_fabric.utilities.exceptions import MisconfigurationException

from emomc.common.errors import UserError, first_line


@contextlib.contextmanager
def lightning_refusals() -> Iterator[None]:
    """Turn an error of making a Trainer or Fabric in the block into one line for the user.

    Raises:
        UserError: Lightning refuses an accelerator, a precision, a number of devices, ...
    """
    try:
        yield
    except (ImportError, TypeError, ValueError, RuntimeError, OverflowError, MisconfigurationException) as error:
        raise UserError(f"expected settings that Lightning accepts, found: {first_line(error)}") from error
