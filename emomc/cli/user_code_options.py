"""The options that name a user's own network and data."""

from __future__ import annotations

from jsonargparse import ArgumentParser


def add_user_code_options(parser: ArgumentParser) -> None:
    """Add the options that name a user's own network and data."""
    parser.add_argument(
        "--network",
        type=str | None,
        default=None,
        help="Your own network, as given to emomc-pretrain; its code is run.",
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
