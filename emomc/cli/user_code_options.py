"""The options that name a user's own network and data."""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace

from emomc.common.errors import UserError

_NAMES = ("network", "module", "dataset", "data_dir")


def add_user_code_options(parser: ArgumentParser) -> None:
    """Add the options that name a user's own network and data."""
    parser.add_argument(
        "--network",
        type=str | None,
        default=None,
        help="Your own network, as given to emomc-pretrain; its code is run.",
    )
    parser.add_argument(
        "--module",
        type=str | None,
        default=None,
        help="Your own LightningModule, as given to emomc-pretrain; its code is run.",
    )
    parser.add_argument(
        "--dataset",
        type=str | None,
        default=None,
        help="Your own data module, as given to emomc-pretrain; its code is run.",
    )
    parser.add_argument(
        "--data_dir",
        type=str | None,
        default=None,
        help="Folder of the data, if not the same as for emomc-pretrain.",
    )


def check_user_code_options(arguments: Namespace) -> None:
    """Check that what the options name can be a name.

    Raises:
        UserError: one is blank, or has characters that cannot be printed.
    """
    for option in _NAMES:
        value = arguments[option]
        if value is not None and (not value.strip() or not value.isprintable()):
            raise UserError(f"expected --{option} with a name, found {value!r}")
