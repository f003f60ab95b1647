"""Strict reading of YAML files."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from emomc.common.errors import UserError
from emomc.common.json_values import MOST_DIGITS


def read_yaml(path: Path, what: str) -> Any:
    """Read a YAML file of plain values.

    Args:
        path: the file.
        what: what the file should be, for the error ("a hardware file").

    Raises:
        UserError: the file cannot be read, is not YAML, has a duplicate key, or contains an alias.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"expected {what} at {path}, found one that cannot be read: {error}") from None
    except (yaml.YAMLError, RecursionError) as error:
        problem = " ".join(str(error).split())
        raise UserError(f"expected {what} in YAML at {path}, found: {problem}") from None


def parse_yaml(text: str) -> Any:
    """Return the plain values of a YAML text; raise a yaml.YAMLError or a RecursionError if it cannot be parsed."""
    return yaml.load(text, Loader=_StrictLoader)


class _StrictLoader(yaml.SafeLoader):
    """Also refuses duplicate keys, aliases, which can expand one line to gigabytes, and numbers read as others."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Make the next node; refuse an alias."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None, None, f"the alias *{self.peek_event().anchor}", self.peek_event().start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Make the mapping of a YAML node; refuse a duplicate key."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                break  # the base class refuses it
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Make a whole number; refuse one of over 18 digits."""
        value = int(super().construct_yaml_int(node)) if len(node.value) <= _LONGEST_NUMBER else None
        _refuse_other_base(node, value)
        if value is None or abs(value) >= 10**MOST_DIGITS:
            raise yaml.constructor.ConstructorError(
                None, None, f"a whole number of over {MOST_DIGITS} digits", node.start_mark
            )
        return value

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """Make a number."""
        value = float(super().construct_yaml_float(node))
        _refuse_other_base(node, value)
        return value


def _refuse_other_base(node: yaml.ScalarNode, value: float | None) -> None:
    """Refuse what YAML 1.1 reads in base 8, such as 064, or 60, such as 4:00: nobody means that in a setting."""
    if ":" in node.value or re.fullmatch(r"[-+]?0[0-7_]+", node.value):
        raise yaml.constructor.ConstructorError(
            None, None, f"{node.value[:24]}, which YAML reads as {value}", node.start_mark
        )


# Underscores and other bases make the text of a whole number longer than its digits.
_LONGEST_NUMBER = 80
_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_yaml_int)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _StrictLoader.construct_yaml_float)
