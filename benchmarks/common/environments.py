"""Environments from the package index, one for each tool, and scripts that run in them."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

_SECONDS = 1800
_VERSIONS = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclasses.dataclass(frozen=True)
class Environment:
    """What came of installing a tool."""

    python: Path
    versions: dict[str, str]
    """Package -> version, of those that the tool names."""
    reason: str = ""
    """Why it is not there; empty: it is."""


def environment_of(
    folder: Path, packages: Sequence[str], *, install: bool = True, with_own: bool = False
) -> Environment:
    """Return an environment; one that has its versions is used again.

    Args:
        folder: of the environment.
        packages: what a tool needs, each as ``NAME==VERSION``.
        install: whether to make what is missing.
        with_own: whether it also sees the packages of the environment that runs this, such as torch; what the tool
            needs in another version it gets for itself.
    """
    python = folder / "bin" / "python"
    found = Environment(python, installed(python, packages))
    if len(found.versions) == len(packages):
        return found
    if not install:
        return dataclasses.replace(found, reason=f"no environment in {folder}")
    if not python.exists():
        venv.create(folder, with_pip=True)
    if with_own:
        _show_own_packages(folder)
    words = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return dataclasses.replace(found, reason=f"pip is not done in {_SECONDS // 60} minutes")
    if done.returncode:
        return dataclasses.replace(found, reason=reason_in(done.stderr))
    return Environment(python, installed(python, packages))


def _show_own_packages(folder: Path) -> None:
    """Let an environment find the packages of the one that runs this, behind its own."""
    own = [path for path in sys.path if Path(path).name == "site-packages"]
    (theirs,) = folder.glob("lib/python*/site-packages")
    lines = [f"import site; site.addsitedir({path!r})" for path in own]
    (theirs / "own_packages.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")


def installed(python: Path, packages: Sequence[str]) -> dict[str, str]:
    """Return package -> version of those packages, each ``NAME==VERSION``, that are there in that version."""
    if not python.exists():
        return {}
    wanted = dict(package.split("==") for package in packages)
    done = subprocess.run([python, "-c", _VERSIONS, *wanted], capture_output=True, text=True, check=True)
    return {name: version for name, version in json.loads(done.stdout).items() if version == wanted[name]}


def run_script(python: Path, script: Path, arguments: Sequence[object], seconds: float) -> tuple[str, str]:
    """Run a script in an environment.

    Args:
        python: of the environment.
        script: the script.
        arguments: of it.
        seconds: limit of its time.

    Returns:
        Its last line of output, and why it failed; one of them is empty.
    """
    # Nothing of this process's environment: neither its packages nor its threads decide.
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    variables = {name: value for name, value in os.environ.items() if name not in hidden}
    variables |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(
            [python, "-W", "ignore", script, *map(str, arguments)],
            capture_output=True,
            text=True,
            errors="replace",
            env=variables,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "", f"not done in {seconds / 60:.0f} minutes"
    if done.returncode:
        crash = f"crashes (signal {-done.returncode})" if done.returncode < 0 else ""
        return "", crash or reason_in(done.stderr or done.stdout)
    return done.stdout.strip().splitlines()[-1], ""


def reason_in(text: str) -> str:
    """Return the last line of a text that names an error, or its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "rror" in line]
    return ([*lines, "no reason given"] if not lines else errors or lines)[-1][:160]
