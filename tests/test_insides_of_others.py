"""Nothing private of another package is used, and nothing of it is replaced, but for what is listed here."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import pymoo.core.mutation
import pymoo.core.sampling
import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"emomc": "emomc", "callbacks": "emomc.callbacks", "lightning_modules": "emomc.lightning_modules"}
SOURCES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]

OVERRIDDEN = {
    # pymoo's documentation says to write operators of one's own by this method.
    ("GivenSampling", "_do"): pymoo.core.sampling.Sampling,
    ("StepMutation", "_do"): pymoo.core.mutation.Mutation,
}
"""(Class, private method) -> the class of the other package that calls it."""

SET = {
    # Python's documentation of the module says to show warnings in another way by this.
    "warnings.showwarning",
    # A setting that torch documents.
    "torch.backends.cudnn.benchmark",
}
"""Attributes of other packages' modules that are set."""

DOCUMENTED = {
    # Python's documentation has it, in spite of its name.
    "os._exit",
}
"""Names that look private and are not."""


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("_")


def uses(tree: ast.AST) -> Iterator[str]:
    """Private attributes of anything but self and cls, and imports of private names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield ast.unparse(node)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith("__"):
            names = [*node.module.split("."), *(name.name for name in node.names)]
            yield from (f"{node.module}.{name}" for name in names if private(name))


def assignments(tree: ast.AST) -> Iterator[str]:
    """Attributes of imported modules that are set."""
    modules = {
        (name.asname or name.name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in node.names
        if isinstance(node, ast.Import) or name.name.islower()
    }
    for node in ast.walk(tree):
        for target in node.targets if isinstance(node, ast.Assign) else []:
            for part in target.elts if isinstance(target, ast.Tuple) else [target]:
                if isinstance(part, ast.Attribute) and ast.unparse(part).split(".")[0] in modules:
                    yield ast.unparse(part)


def test_nothing_private_is_used():
    assert len(SOURCES) > 100
    found = {(str(path.relative_to(ROOT)), name) for path in SOURCES for name in uses(ast.parse(path.read_text()))}
    assert {(path, name) for path, name in found if name not in DOCUMENTED} == set()


def test_nothing_is_replaced():
    found = {name for path in SOURCES for name in assignments(ast.parse(path.read_text()))}
    assert found == SET


def test_no_private_method_is_overridden():
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = [part for part in path.relative_to(ROOT / folder).with_suffix("").parts if part != "__init__"]
            module = importlib.import_module(".".join([package, *parts]))
            for kind in vars(module).values():
                if not inspect.isclass(kind) or kind.__module__ != module.__name__:
                    continue
                others = [base for base in kind.__mro__[1:] if not base.__module__.startswith("emomc")]
                for name, value in vars(kind).items():
                    if private(name) and inspect.isfunction(value):
                        # The nearest base has the last word.
                        for base in reversed([base for base in others if name in vars(base)]):
                            found[kind.__name__, name] = base
    assert found == OVERRIDDEN


@pytest.mark.parametrize(("kind", "method"), OVERRIDDEN)
def test_the_other_package_still_calls_what_is_overridden(kind, method):
    base = OVERRIDDEN[kind, method]
    assert f"self.{method}(" in Path(inspect.getsourcefile(base)).read_text()


def test_the_search_finds_what_it_should():
    code = "import torch\nfrom torch.utils._pytree import tree\ntorch.load = None\ntorch._C.x(self._own)\n"
    assert {*uses(ast.parse(code))} == {"torch._C", "torch.utils._pytree._pytree"}
    assert [*assignments(ast.parse(code))] == ["torch.load"]
