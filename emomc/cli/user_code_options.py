"""The options by which a user names their own network and data, whose code then runs."""

from __future__ import annotations

from jsonargparse import ArgumentParser


def add_user_code_options(parser: ArgumentParser) -> None:
    """Add the options by which the user names a network and data that are not the project's own."""
    parser.add_argument(
        "--network", type=str | None, default=None, help="Your own network, as emomc-pretrain had it; its code is run."
    )
    parser.add_argument(
        "--dataset",
        type=str | None,
        default=None,
        help="Your own data module, as emomc-pretrain had it; its code is run.",
    )
    parser.add_argument(
        "--data_dir",
        type=str | None,
        default=None,
        help="Folder of the data, if it is not where emomc-pretrain had it.",
    )
