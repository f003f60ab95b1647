"""Imports point one way, and the map of the code names every module."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"emomc": ROOT / "emomc", "emomc.callbacks": ROOT / "callbacks"}
FOLDERS |= {"emomc.lightning_modules": ROOT / "lightning_modules"}


def modules() -> dict[str, Path]:
    found = {}
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            parts = [part for part in path.relative_to(folder).with_suffix("").parts if part != "__init__"]
            found[".".join([package, *parts])] = path
    return found


def imports(path: Path, known: set[str]) -> set[str]:
    """The project's modules that a module imports when it runs, those for type checkers left out."""
    found = set()
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        pending.extend(ast.iter_child_nodes(node))
    return found & known


def test_no_import_cycles():
    known = modules()
    graph = {name: imports(path, set(known)) - {name} for name, path in known.items()}
    assert sum(map(len, graph.values())) > 100
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")


def test_only_the_commands_import_the_commands():
    known = modules()
    for name, path in known.items():
        if not name.startswith("emomc.cli"):
            assert not any(target.startswith("emomc.cli") for target in imports(path, set(known))), name


def test_the_map_names_every_module():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    paths = [str(path.relative_to(ROOT)) for path in modules().values() if path.name != "__init__.py"]
    missing = [path for path in paths if f"`{path.rsplit('/', 1)[-1]}`" not in text]
    assert not missing
