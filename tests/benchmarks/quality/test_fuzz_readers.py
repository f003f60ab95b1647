"""Every reader meets damaged files in a process of its own; ``make fuzz`` does it for long."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.quality.fuzzed import NO_FILES, READERS

ROOT = Path(__file__).parents[3]


def test_damaged_files_are_read_or_refused_in_one_line(tmp_path):
    module = "benchmarks.quality.fuzz_readers"
    options = ["--inputs", "100", "--seconds", "0.06", "--seed", "7", "--failures", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", module, *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert all(int(row.split("|")[2]) > 0 for row in rows)
    fuzzed = {row.split("|")[1].strip() for row in rows}
    assert {name for names in READERS.values() for name in names} <= fuzzed


CALLS = {"read_json", "read_yaml", "parse_json", "parse_yaml", "read_tensors", "parse_tensors", "read_torch"}
CALLS |= {"read_checked", "load_file", "safe_open"}
CALLS_OF = {("torch", "load"), ("np", "load"), ("numpy", "load"), ("json", "load"), ("json", "loads"), ("yaml", "load")}
CALLS_OF |= {("torch", "load"), ("safetensors.torch", "load"), ("csv", "reader")}


def calls(tree: ast.AST, function: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield each call as the function that it is in, what it is called of, and its name."""
    for node in ast.iter_child_nodes(tree):
        inside = node.name if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else function
        if isinstance(node, ast.Call):
            owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            yield inside, owner, node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        yield from calls(node, inside)


def test_every_reader_is_in_the_table():
    found = set()
    for folder in ("emomc", "callbacks", "lightning_modules", "configs"):
        for path in (ROOT / folder).rglob("*.py"):
            for function, owner, name in calls(ast.parse(path.read_text())):
                if name in CALLS or (owner, name) in CALLS_OF:
                    found.add(f"{path.relative_to(ROOT)}:{function}")
    assert found == {*READERS, *NO_FILES}
