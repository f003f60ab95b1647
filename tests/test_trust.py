"""What SECURITY.md promises of the code: nothing is unpickled, evaluated or fetched."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("emomc", "callbacks", "lightning_modules", "configs")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
MODULES |= {"urllib", "requests", "http", "ftplib", "socket", "subprocess", "ctypes"}
CALLS = {"eval", "exec", "compile", "__import__", "system", "popen"}
CALLS_OF_ANYBODY = {"exec_module", "unsafe_load", "full_load"}
ALLOWED = {
    ("emomc/common/user_code.py", "exec_module"),
    # The processes of a run, which start each other and watch over each other.
    ("emomc/runtime/launch.py", "socket"),
    ("emomc/runtime/launch.py", "subprocess"),
    ("emomc/runtime/watch.py", "socket"),
    # The compiler, and the program that it makes of a source that was just written.
    ("emomc/export/c/compiling.py", "subprocess"),
}
"""The one module that runs a user's code, and those that start or meet other processes."""


def named(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def owner_of(node: ast.Call) -> str | None:
    """The module that a function is called of, "" without one; None for a method, since network.eval() is no eval."""
    if isinstance(node.func, ast.Attribute):
        return node.func.value.id if isinstance(node.func.value, ast.Name) else None
    return ""


def keyword(node: ast.Call, name: str) -> object:
    return next((ast.literal_eval(word.value) for word in node.keywords if word.arg == name), None)


def offences(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
            yield from (name for name in names if name.split(".")[0] in MODULES)
        elif isinstance(node, ast.Call):
            call = named(node)
            owner = owner_of(node)
            if (call in CALLS and owner in ("", "os", "builtins")) or call in CALLS_OF_ANYBODY:
                yield call
            if (owner, call) == ("torch", "load") and keyword(node, "weights_only") is not True:
                yield "torch.load"
            if (owner, call) == ("yaml", "load") and not any(word.arg == "Loader" for word in node.keywords):
                yield "yaml.load"
            if owner in ("np", "numpy") and call == "load" and keyword(node, "allow_pickle") is not False:
                yield "numpy.load"


def test_no_module_unpickles_evaluates_or_fetches():
    assert len(SOURCES) > 80
    found = {(str(path.relative_to(ROOT)), what) for path in SOURCES for what in offences(path)}
    assert found == ALLOWED


def test_the_search_for_offences_finds_them(tmp_path):
    (tmp_path / "a.py").write_text("import pickle\nimport os\nos.system('x')\neval('1')\ntorch.load(f)\nyaml.load(t)\n")
    assert {*offences(tmp_path / "a.py")} == {"pickle", "system", "eval", "torch.load", "yaml.load"}
