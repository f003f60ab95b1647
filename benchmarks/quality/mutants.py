"""Change the code in one place at a time and see whether the module's own tests notice.

    python -m benchmarks.quality.mutants --output docs/results/reliability.md

A change that no test notices survives: either a test is missing, or the change cannot matter.
``mutants_tables.py`` says which cannot, and why. What is changed, and to what, is up to cosmic-ray's operators.
The process imports what is not ours and forks for each mutant; the fork gets the changed
source when it imports the module, and runs the tests. Nothing is written to the source tree.

Not counted, since no result depends on them: annotations, what stands under ``if TYPE_CHECKING``, the texts of errors
and warnings, ``frozen`` of dataclasses and ``strict`` of ``zip`` (which guard against errors in the code), and whether
a parameter may be given by position. What stands in the output outside of the two marks stays.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
import torch
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

from benchmarks.common.command_line import argument_parser
from benchmarks.common.tables import table
from benchmarks.quality.mutants_tables import OPERATORS, REASONS, TESTS

ROOT = Path(__file__).parents[2]
MARK = "mutants"
SURVIVORS_ALLOWED = 0.05
"""Share of a module's mutants."""
SECONDS, TIMES = 10.0, 5.0
"""A mutant may take this long, or this many times as long as the unchanged module."""
MEMORY_GIB = 8


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A module with one change."""

    line: int
    """Number of the changed line, from 1."""
    before: str
    after: str
    """The changed line, without its indentation."""
    source: str
    """Of the whole module."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of the mutants of a module."""

    module: str
    mutants: int
    hung: int
    """Those among the killed ones that ran into the time limit."""
    survivors: list[Mutant]
    seconds: float

    def unexplained(self) -> list[Mutant]:
        return [mutant for mutant in self.survivors if (self.module, mutant.after) not in REASONS]


# Mutants


class _WhatMatters(ast.NodeTransformer):
    """Removes from a module what no result depends on."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        given = node.args
        every = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        for argument in [*every, *filter(None, [given.vararg, given.kwarg])]:
            argument.annotation = None
        given.posonlyargs, given.args, given.kwonlyargs = [], every, []
        given.defaults, given.kw_defaults = [*given.defaults, *filter(None, given.kw_defaults)], []
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        node.annotation = ast.Constant(None)
        return node

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        return node.orelse if any(_name(part) == "TYPE_CHECKING" for part in ast.walk(node.test)) else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = _name(node.func)
        if name.endswith("Error") or name == "warn":
            node.args, node.keywords = [], []
        if name == "require":
            node.args = node.args[:1]
        guard = {"zip": "strict", "dataclass": "frozen"}.get(name)
        node.keywords = [keyword for keyword in node.keywords if keyword.arg != guard]
        return node


def _name(node: ast.AST) -> str:
    return getattr(node, "attr", getattr(node, "id", ""))


def what_matters(source: str) -> str:
    """Return what results can depend on, in a form that is equal for two sources if it is the same in both."""
    return ast.dump(_WhatMatters().visit(ast.parse(source)))


def mutants(source: str) -> Iterator[Mutant]:
    """Yield the mutants of a module that differ in what matters."""
    seen = {what_matters(source)}
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        positions = [place for node in ast_nodes(get_ast(source)) for place in operator.mutation_positions(node)]
        for occurrence, ((line, _), _) in enumerate(positions):
            changed = mutate_code(source, operator, occurrence)
            try:
                essence = what_matters(changed)
            except SyntaxError:
                continue
            if essence not in seen:
                seen.add(essence)
                yield Mutant(line, *_changed_line(source, changed, line), changed)


def _changed_line(source: str, changed: str, line: int) -> tuple[str, str]:
    """Return a line before and after a change, without indentation and without the spaces that cosmic-ray puts."""
    lines, others = source.splitlines(), changed.splitlines()
    if len(others) < len(lines):
        # A decorator went, with its line.
        return lines[line - 1].strip(), ""
    before, after = next(pair for pair in zip(lines, others, strict=True) if pair[0] != pair[1])
    return before.strip(), re.sub(r"(?<=[(\[-]) | (?= )|(?<=\*\*) (?=\d)", "", after.strip())


# Tests


class _Changed(importlib.machinery.SourceFileLoader, importlib.abc.MetaPathFinder):
    """Finds one module, and loads another source in its place."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        super().__init__(name, str(path))
        self.source = source

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.source, self.path, "exec", dont_inherit=True)


class _KeepLibrary:
    """Keeps the library that the tests share, as it was made by unchanged code."""

    def __init__(self, kept: Path) -> None:
        self.kept = kept

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Any:
        value = yield
        if fixturedef.argname == "shared_run":
            shutil.copytree(value, self.kept)
        return value


class _GiveLibrary:
    """Gives the tests a copy of the library that was kept: making one takes longer than most tests."""

    def __init__(self, kept: Path) -> None:
        self.kept = kept

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: pytest.FixtureRequest) -> Any:
        if fixturedef.argname != "shared_run":
            return None
        run = request.getfixturevalue("tmp_path_factory").mktemp("kept") / "run"
        shutil.copytree(self.kept, run)
        fixturedef.cached_result = (run, fixturedef.cache_key(request), None)
        return run


def import_what_is_not_ours() -> None:
    """Import what takes long, so that a fork need not."""
    names = ["hypothesis", "moocore", "numpy", "onnx", "pydantic", "pytorch_lightning", "safetensors.torch", "yaml"]
    names += ["pymoo.algorithms.moo.nsga2", "pymoo.algorithms.moo.nsga3", "pymoo.algorithms.moo.sms", "torchmetrics"]
    names += [
        "pymoo.util.ref_dirs",
        "pymoo.problems.static",
        "pymoo.operators.crossover.ux",
        "pymoo.operators.mutation.pm",
    ]
    names += ["tensorboard", "torch.utils.tensorboard", "torch.export", "torchvision", "jsonargparse", "filelock"]
    names += ["hypothesis.strategies", "hypothesis.extra.numpy", "lightning_fabric"]
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    ours = [name for name in sys.modules if name.split(".")[0] == "emomc"]
    assert not ours, f"expected that forks import emomc, found it imported: {ours}"
    # Otherwise each fork's garbage collection looks through, and copies, all that was imported.
    gc.collect()
    gc.freeze()


def run_tests(name: str, path: Path, source: str, tests: Sequence[Path], limit: float, folder: Path) -> int | None:
    """Run tests with another source for one module; return pytest's exit status, None past the time limit in s."""
    child = os.fork()
    if not child:
        status = 1
        try:
            status = _in_child(name, path, source, tests, folder)
        finally:
            os._exit(status)
    ends = time.monotonic() + limit
    status = 0
    while time.monotonic() < ends:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.005)
    # A test may have left processes of its own.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    shutil.rmtree(folder / "tests", ignore_errors=True)
    if ended:
        return os.waitstatus_to_exitcode(status)
    os.waitpid(child, 0)
    return None


def _in_child(name: str, path: Path, source: str, tests: Sequence[Path], folder: Path) -> int:
    os.setsid()
    with (folder / "output").open("wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (MEMORY_GIB << 30),) * 2)
    from hypothesis import Phase, settings

    # The same examples for all mutants, and no time spent on nicer ones.
    phases = [Phase.explicit, Phase.generate]
    settings.register_profile("mutants", database=None, deadline=None, derandomize=True, phases=phases)
    settings.load_profile("mutants")
    sys.meta_path.insert(0, _Changed(name, path, source))
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    kept = folder / "library"
    # Stage I prunes and folds: a change of these must reach the library.
    makes_library = any(part in name for part in ("pruning", "folding"))
    plugins = [] if makes_library else [_GiveLibrary(kept) if kept.exists() else _KeepLibrary(kept)]
    options = [
        "-x",
        "-q",
        "--no-header",
        "--tb=native",
        "-m",
        "not slow",
        "-p",
        "no:cacheprovider",
        "-p",
        "_hypothesis_pytestplugin",
    ]
    return pytest.main([*options, f"--basetemp={folder / 'tests'}", *map(str, tests)], plugins=plugins)


def try_module(path: Path, tests: Sequence[Path], folder: Path) -> Result:
    """Run the tests with each mutant of a module."""
    began = time.monotonic()
    inside = path.relative_to(ROOT) if path.is_relative_to(ROOT) else Path(path.name)
    name = ".".join(inside.with_suffix("").parts)
    if path.is_relative_to(ROOT) and not name.startswith("emomc."):
        name = f"emomc.{name}"
    source = path.read_text(encoding="utf-8")
    status = run_tests(name, path, source, tests, 600, folder)
    if status != 0:
        output = (folder / "output").read_text(encoding="utf-8", errors="replace")
        raise SystemExit(f"expected the tests of {inside} to pass without a change, found status {status}:\n{output}")
    limit = max(SECONDS, TIMES * (time.monotonic() - began))
    count, hung, survivors = 0, 0, []
    for mutant in mutants(source):
        count += 1
        status = run_tests(name, path, mutant.source, tests, limit, folder)
        hung += status is None
        if status == 0:
            survivors.append(mutant)
            print(f"{inside}:{mutant.line}: {mutant.before}  ->  {mutant.after}", flush=True)
    survivors.sort(key=lambda mutant: mutant.line)
    return Result(str(inside), count, hung, survivors, time.monotonic() - began)


def report(results: Sequence[Result]) -> str:
    """Return the tables of the modules and of the survivors."""
    from benchmarks.common.page import machine, made_by  # it imports emomc, which forks must not find imported

    rows = []
    for result in results:
        survived = len(result.survivors)
        counts = [result.mutants, result.hung, survived, len(result.unexplained())]
        share = f"{survived / max(1, result.mutants):.1%}"
        rows.append([f"`{result.module}`", *map(str, counts), share, f"{result.seconds:.0f}"])
    survivors = [
        [
            f"`{result.module}`:{mutant.line}",
            f"`{mutant.before}`",
            f"`{mutant.after}`" if mutant.after else "without it",
            REASONS.get((result.module, mutant.after), "no test notices it"),
        ]
        for result in results
        for mutant in result.survivors
    ]
    head = ["module", "mutants", "ran into the time limit", "survived", "of them could matter", "survived, share", "s"]
    minutes = sum(result.seconds for result in results) / 60
    return f"""{made_by()} on {machine()}; {minutes:.0f} minutes.

{table(head, rows)}

The survivors:

{table(["where", "line", "changed to", "why it survives"], survivors)}
"""


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--modules", default="", help="those whose paths hold this text alone")
    parser.add_argument("--file", type=Path, help="a file that is no part of the project, instead of the modules")
    parser.add_argument("--tests", type=Path, nargs="+", default=[], help="tests of that file")
    parser.add_argument("--output", type=Path, help="markdown file with the two marks, besides printing")
    arguments = parser.parse_args()
    raise SystemExit(0 if run(arguments) else 1)


def run(arguments: argparse.Namespace) -> bool:
    """Try the modules; return whether few enough mutants survive, each with a reason."""
    chosen = {ROOT / module: [ROOT / "tests" / test for test in tests] for module, tests in TESTS.items()}
    if arguments.file:
        chosen = {arguments.file.absolute(): [test.absolute() for test in arguments.tests]}
    # A fork of a process with threads may hang.
    torch.set_num_threads(1)
    import_what_is_not_ours()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for path, tests in chosen.items():
            if arguments.modules in str(path):
                results.append(try_module(path, tests, Path(folder)))
                survived = f"{len(results[-1].survivors)} of {results[-1].mutants} mutants survived"
                print(f"{results[-1].module}: {survived}, {results[-1].seconds:.0f} s", flush=True)
    page = report(results)
    print(page)
    if arguments.output:
        from benchmarks.common.page import put_between_marks

        text = put_between_marks(arguments.output.read_text(encoding="utf-8"), MARK, page)
        arguments.output.write_text(text, encoding="utf-8")
    return all(
        not result.unexplained() and len(result.survivors) <= SURVIVORS_ALLOWED * result.mutants for result in results
    )


if __name__ == "__main__":
    main()
