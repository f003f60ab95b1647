"""The house: packages in one order, imports that only go down, functions and files of a size that can be read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"emomc": ROOT / "emomc"}
FOLDERS |= {f"emomc.{name}": ROOT / name for name in ("callbacks", "lightning_modules", "configs")}

ORDER = (
    "emomc.common",
    "emomc.runtime",
    "emomc.networks",
    "emomc.compression",
    "emomc.hardware",
    "emomc.configs",
    "emomc.data",
    "emomc.packed_file",
    "emomc.lightning_modules",
    "emomc.callbacks.trainer",
    "emomc.tasks",
    "emomc.library",
    "emomc.pretraining",
    "emomc.export",
    "emomc.candidates",
    "emomc.search",
    "emomc.fronts",
    "emomc.callbacks.search",
    "emomc.cli",
)
"""The packages from the lowest to the highest: each imports only from those before it. ``docs/architecture.md`` shows
the same order."""

STAGES = ("emomc.pretraining", "emomc.search")
"""They do not know of each other."""

MAX_LINES = 400
MAX_PARAMETERS = 7


def modules() -> dict[str, Path]:
    """Every module of the installed package, by its dotted name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            parts = [part for part in path.relative_to(folder).with_suffix("").parts if part != "__init__"]
            found[".".join([package, *parts])] = path
    return found


MODULES = modules()


def package_of(module: str) -> str | None:
    """The package of ORDER that a module belongs to; None for the top module and the folder of both floors."""
    return next((package for package in ORDER if module == package or module.startswith(package + ".")), None)


def imports(path: Path, *, for_types: bool = True) -> Iterator[str]:
    """The project's modules that a file imports anywhere, functions included."""
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if not for_types and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            pending.extend(node.orelse)
            continue
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{name.name}" for name in node.names)]
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        yield from (name for name in names if name in MODULES)
        pending.extend(ast.iter_child_nodes(node))


def upward_imports() -> list[str]:
    found = []
    for module, path in MODULES.items():
        package = package_of(module)
        for target in {*imports(path)}:
            other = package_of(target)
            if package and other and ORDER.index(other) > ORDER.index(package):
                found.append(f"{module} imports {target}")
    return sorted(found)


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                yield module, node


def test_every_module_belongs_to_a_package_of_the_order():
    # The top module gives the public names; emomc.callbacks holds two floors and no code.
    assert {module for module in MODULES if package_of(module) is None} == {"emomc", "emomc.callbacks"}
    assert {package_of(module) for module in MODULES} - {None} == {*ORDER}


def test_no_import_goes_up():
    assert upward_imports() == []


def test_the_search_for_upward_imports_finds_them(monkeypatch, tmp_path):
    (tmp_path / "low.py").write_text("def work():\n    from emomc.search.run import run_search\n    run_search()\n")
    monkeypatch.setitem(MODULES, "emomc.common.low", tmp_path / "low.py")
    assert upward_imports() == ["emomc.common.low imports emomc.search.run"]


@pytest.mark.parametrize(("stage", "other"), [STAGES, STAGES[::-1]])
def test_the_stages_do_not_import_each_other(stage, other):
    for module, path in MODULES.items():
        if package_of(module) == stage:
            assert not [target for target in imports(path) if package_of(target) == other], module


def test_no_import_cycles():
    graph = {name: {*imports(path, for_types=False)} - {name} for name, path in MODULES.items()}
    assert sum(map(len, graph.values())) > 100
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")


def test_every_package_says_in_one_sentence_what_it_is():
    for package in ORDER:
        text = ast.get_docstring(ast.parse(MODULES[package].read_text(encoding="utf-8"))) or ""
        assert text.split("\n\n")[0].count(".") >= 1, package


def test_the_map_names_the_packages_in_their_order():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    places = [text.find(f"`{package.removeprefix('emomc.').replace('.', '/')}/`") for package in ORDER]
    assert -1 not in places
    assert places == sorted(places, reverse=True)


def test_no_file_is_too_long():
    files = [*MODULES.values(), *(ROOT / "emomc").rglob("*.js"), *(ROOT / "benchmarks").rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_no_function_has_too_many_parameters():
    counts = {}
    for module, node in functions():
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        counts[f"{module}.{node.name}"] = len([one for one in arguments if one.arg not in ("self", "cls")])
    assert {name: count for name, count in counts.items() if count > MAX_PARAMETERS} == {}
