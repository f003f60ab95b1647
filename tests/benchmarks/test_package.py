"""Every benchmark runs as a module, imports point one way, and commands that are written somewhere exist."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "benchmarks").rglob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


COMMANDS = [module_of(path) for path in FILES if '__name__ == "__main__"' in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_benchmark_prints_its_help(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    module = importlib.import_module(name)
    with pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code == 0
    assert module.__doc__.splitlines()[0] in capsys.readouterr().out


def test_imports_point_one_way() -> None:
    for path in FILES:
        folder = ".".join(module_of(path.parent).split(".")[:2])
        allowed = {"benchmarks.common", folder}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            own = {".".join(name.split(".")[:2]) for name in names if name.split(".")[0] == "benchmarks"}
            assert own <= allowed, path


def test_commands_that_are_written_somewhere_exist() -> None:
    folders = ("benchmarks", "docs", "tests", "configs", "examples")
    texts = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md", ".csv")]
    written = set()
    for path in [*texts, ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "Makefile"]:
        written |= set(re.findall(r"python -m (benchmarks[\w.]*\w)", path.read_text(encoding="utf-8")))
    runnable = {name.removesuffix(".__main__") for name in COMMANDS}
    assert written - {"benchmarks.NAME"} <= runnable
    assert len(written) > len(runnable) / 2
