"""What all commands share: common options, configuration files and error handling."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace, set_parsing_settings

from emomc.common.errors import ProcessLost, UserError, UserFact, UserNote
from emomc.common.schema import checked
from emomc.common.yaml_files import parse_yaml, read_yaml

T = TypeVar("T")

SECTIONS = ("pretrain", "search", "export", "hardware", "measure")


def make_parser(command: str, description: str) -> ArgumentParser:
    """Return a parser with the options that all commands share.

    Args:
        command: name of the console script.
        description: one sentence that says what the command does.
    """
    # Help texts are the docstrings below the fields of the dataclasses.
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(prog=command, description=description, exit_on_error=False, default_env=False)
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('emomc')}")
    parser.add_argument(
        "--config",
        action=ActionConfigFile,
        help="YAML file of settings, or name of a shipped configuration; flags override it.",
    )
    return parser


def with_lists(argv: Sequence[str], *options: str) -> list[str]:
    """Write the values of options that take a list as the parser wants them.

    Args:
        argv: words of a command line, such as ``--mean 0.5 0.4 0.3``.
        options: names of such options, without dashes.

    Returns:
        The words, such as ``--mean [0.5,0.4,0.3]``.
    """
    words = list(argv)
    for option in options:
        if f"--{option}" in words:
            first = words.index(f"--{option}") + 1
            values = list(itertools.takewhile(_is_value, words[first:]))
            words[first : first + len(values)] = [f"[{','.join(map(_quoted, values))}]"] if values else []
    return words


def _quoted(word: str) -> str:
    """Quote what YAML would take for a number of minutes, such as 2:4."""
    return json.dumps(word) if ":" in word else word


def _is_value(word: str) -> bool:
    """Whether a word is a value of a list, such as -0.5, and neither an option nor a list."""
    is_option = word.startswith("-") and not word[1:2].isdigit()
    return not is_option and not word.startswith("[")


def run_command(
    parser: ArgumentParser, section: str, argv: Sequence[str] | None, run: Callable[[Namespace], None]
) -> int:
    """Parse and run a command.

    Args:
        parser: from ``make_parser``.
        section: the command's section in a configuration file.
        argv: arguments; those of the process if None.
        run: called with the parsed arguments.

    Returns:
        The exit status: 0; 1 if another process of the run was lost and 2 after wrong input, both with one line on
        standard error; 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserNote)
            warnings.showwarning = _warn_in_one_line(parser.prog, warnings.showwarning)
            run(parser.parse_args(resolve_configs(arguments, section)))
    except (UserError, argparse.ArgumentError) as error:
        print(f"{parser.prog}: error: {_one_line(str(error))}", file=sys.stderr)
        return 2
    except ProcessLost as error:
        print(f"{parser.prog}: error: {_one_line(str(error))}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"{parser.prog}: error: expected files to read and write, found: {_one_line(str(error))}", file=sys.stderr
        )
        return 2
    except KeyboardInterrupt:
        if _is_first_process():
            print(f"{parser.prog}: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _warn_in_one_line(command: str, otherwise: Callable[..., None]) -> Callable[..., None]:
    """Return a replacement for ``warnings.showwarning`` that prints a ``UserNote`` or ``UserFact`` in one line."""

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, UserNote):
            fact = issubclass(category, UserFact)
            if _is_first_process() and fact:
                print(_one_line(str(message)))
            elif _is_first_process():
                print(f"{command}: warning: {_one_line(str(message))}", file=sys.stderr)
        else:
            otherwise(message, category, *place, **more)

    return show


def _is_first_process() -> bool:
    """Whether this process is the first of its run, or its only one, as the launchers say."""
    ranks = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return next((rank for rank in ranks if rank is not None), "0") == "0"


def shipped_configs() -> dict[str, str]:
    """Return name -> text of each shipped configuration."""
    folder = files("emomc.configs")
    shipped = (entry for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return {entry.name.removesuffix(".yaml"): entry.read_text(encoding="utf-8") for entry in shipped}


def fields_of(namespace: Namespace, kind: type) -> dict[str, Any]:
    """Return the values of a parsed namespace that are fields of a dataclass."""
    return {name: namespace[name] for name in kind.__dataclass_fields__ if name in namespace}  # type: ignore[attr-defined]


def settings_of(namespace: Namespace, kind: type[T]) -> T:
    """Return the settings of a dataclass from a parsed namespace.

    Raises:
        UserError: a value is of a wrong type or out of its range.
    """
    return checked(kind, fields_of(namespace, kind), "valid settings")


def resolve_configs(arguments: list[str], section: str) -> list[str]:
    """Replace the value of each --config by the text of the command's section."""
    resolved = []
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        if argument == "--config" and position + 1 < len(arguments):
            resolved += ["--config", _section_text(arguments[position + 1], section)]
            position += 1
        elif argument.startswith("--config="):
            resolved.append("--config=" + _section_text(argument.removeprefix("--config="), section))
        else:
            resolved.append(argument)
        position += 1
    return resolved


def _section_text(name: str, section: str) -> str:
    path = Path(name)
    shipped = shipped_configs()
    if path.is_file():
        settings = read_yaml(path, "settings")
    elif name in shipped:
        settings = parse_yaml(shipped[name])
    else:
        raise UserError(f"expected --config to be a file or one of {', '.join(sorted(shipped))}, found {name!r}")
    if not isinstance(settings, dict):
        raise UserError(f"expected a mapping of settings in {name}, found {type(settings).__name__}")
    # A file for several commands has one section per command; a file from --print_config has no sections, but may have
    # the setting hardware, a text.
    if any(name in SECTIONS and not isinstance(value, str) for name, value in settings.items()):
        unknown = settings.keys() - set(SECTIONS)
        if unknown:
            raise UserError(f"expected the sections {', '.join(SECTIONS)} in {name}, found {sorted(unknown)[0]!r}")
        settings = settings.get(section) or {}
    return yaml.safe_dump(settings) if settings else "{}"


def _one_line(text: str) -> str:
    # An error in a DataLoader worker process comes with a traceback before it.
    if "in DataLoader worker process" in text:
        text = text.rsplit("UserError: ", 1)[-1]
    # A name from a file may hold codes that a terminal acts on.
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))


def output_file(name: str | None) -> Path:
    """Return the path of ``--output`` for a file to write.

    Raises:
        UserError: there is none, or something else than a file is there.
    """
    if name is None or not name.strip() or not name.isprintable():
        raise UserError(f"expected --output with a file to write, found {'none' if name is None else repr(name)}")
    output = Path(name)
    if output.is_dir():
        raise UserError(f"expected --output with a file to write, found the folder {output}")
    if output.is_symlink() or (output.exists() and not output.is_file()):
        raise UserError(f"expected --output with a new file or one to replace, found a link or a device at {output}")
    return output


def stdout_is_terminal() -> bool:
    """Whether standard output is a terminal that can move its cursor."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") != "dumb"
