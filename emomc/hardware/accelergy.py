"""Energies of a hardware file from the tables that Accelergy writes.

Source: Wu, Emer, Sze, "Accelergy: An Architecture-Level Energy Estimation Methodology for Accelerator Designs", ICCAD
2019; its files ``ERT.yaml`` and ``ERT_summary.yaml`` have the energy of each action of each component, in pJ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emomc.common.errors import UserError, is_whole
from emomc.common.fields import FieldError, Problems, require_mapping, require_number, show
from emomc.common.yaml_files import read_yaml

ENERGIES = "energies"
"""Key of a hardware file that names the table."""
_FORMS = {"ERT": "tables", "ERT_summary": "table_summary"}
_COUNT = re.compile(r"\[[^]]*\]")
"""How often a component is there, such as [1..168]."""
Table = Mapping[str, Mapping[str, float]]
"""Component -> action -> pJ."""


def with_energies(values: Any, folder: Path) -> Any:
    """Fill in the energies of a hardware description from its table.

    A memory without ``r_cost`` or ``w_cost`` takes the actions read and write of the component of its name. In ``mac``
    a text in place of a number is the name of a component, and stands for its action compute.

    Args:
        values: what stands below ``hardware``; unchanged where it names no table.
        folder: of the hardware file, from which the path of the table starts.

    Raises:
        FieldError: the table lacks what is asked for, with the path in the hardware file.
        UserError: the table cannot be read.
    """
    if not isinstance(values, Mapping) or ENERGIES not in values:
        return values
    found = {key: value for key, value in values.items() if key != ENERGIES}
    name = values[ENERGIES]
    if not isinstance(name, str) or not name.strip():
        raise FieldError(ENERGIES, f"expected the name of a file, found {show(name)}")
    if values.get("energy_unit") != "pJ":
        raise FieldError("energy_unit", f"expected pJ with energies of a file, found {show(values.get('energy_unit'))}")
    table, problems = read_energies(folder / name), Problems()
    if isinstance(found.get("memories"), Sequence):
        found["memories"] = [
            problems.of(_memory, memory, table, inside=f"memories[{place}]")
            for place, memory in enumerate(found["memories"])
        ]
    array = found.get("operational_array")
    if isinstance(array, Mapping) and "mac" in array:
        mac = problems.of(_mac, array["mac"], table, inside="operational_array.mac")
        found["operational_array"] = {**array, "mac": mac}
    problems.end()
    return found


def read_energies(path: Path) -> Table:
    """Read an ``ERT.yaml`` or ``ERT_summary.yaml``.

    Raises:
        UserError: the file cannot be read, or is something else; the error names the wrong entry.
    """
    content = read_yaml(path, "an energy reference table of Accelergy")
    form = next((key for key in _FORMS if isinstance(content, Mapping) and isinstance(content.get(key), Mapping)), None)
    tables = None if form is None else content[form].get(_FORMS[form])
    if not isinstance(tables, list) or not tables:
        raise UserError(f"expected ERT with tables, or ERT_summary with table_summary, in {path}, found neither")
    found: dict[str, dict[str, float]] = {}
    try:
        for place, entry in enumerate(tables):
            component, actions = _component(entry, f"{_FORMS[str(form)]}[{place}]")
            found.setdefault(component, {}).update(actions)
    except FieldError as error:
        raise UserError(f"{path}: {error}") from None
    return found


def _component(entry: Any, where: str) -> tuple[str, dict[str, float]]:
    """Return the name of a component, without what it is a part of and how often it is there, and its energies."""
    values = require_mapping(entry) if isinstance(entry, Mapping) else {}
    name, actions = values.get("name"), values.get("actions")
    if not isinstance(name, str) or not isinstance(actions, list):
        raise FieldError(where, f"expected a name and actions, found {show(entry)}")
    energies: dict[str, float] = {}
    for place, action in enumerate(actions):
        inside = f"{where}.actions[{place}]"
        if not isinstance(action, Mapping) or not isinstance(action.get("name"), str):
            raise FieldError(inside, f"expected a name and an energy, found {show(action)}")
        energy: Any = action.get("energy")
        require_number(f"{inside}.energy", energy)
        if energies.setdefault(action["name"], energy) != energy:
            raise FieldError(inside, f"expected one energy of {action['name']}, found others for other arguments")
    return _COUNT.sub("", name).rsplit(".", 1)[-1], energies


def _memory(memory: Any, table: Table) -> Any:
    """Return a memory with its energies."""
    if not isinstance(memory, Mapping):
        return memory
    missing = {key: action for key, action in (("r_cost", "read"), ("w_cost", "write")) if memory.get(key) is None}
    return {**memory, **{key: _energy(table, memory.get("name"), action, key) for key, action in missing.items()}}


def _mac(value: Any, table: Table, path: str = "") -> Any:
    """Return a MAC with numbers in place of the names of components."""
    if isinstance(value, Mapping):
        inside = {key: f"{path}.{key}".lstrip(".") for key in value}
        return {key: one if key == "model" else _mac(one, table, inside[key]) for key, one in value.items()}
    return _energy(table, value, "compute", path) if isinstance(value, str) and not is_whole(value) else value


def _energy(table: Table, component: Any, action: str, path: str) -> float:
    if component not in table or action not in table[component]:
        there = ", ".join(name for name, actions in table.items() if action in actions) or "none"
        raise FieldError(path, f"expected a component {component!r} with {action} in the table, found {there}")
    return table[component][action]
