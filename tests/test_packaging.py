"""The package as others see it: one name, whatever lies in their folder."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from importlib.resources import files

import pytest

import emomc

CODE = """
import callbacks, configs, lightning_modules
assert callbacks.MINE == configs.MINE == lightning_modules.MINE == "mine"
import emomc.callbacks.search.front_writer, emomc.configs, emomc.lightning_modules.classifier
assert emomc.callbacks is not callbacks and not hasattr(emomc.callbacks, "MINE")
from emomc.callbacks.search.front_writer import FrontWriter
from emomc.search.observer import SearchCallback
assert issubclass(FrontWriter, SearchCallback)
print(FrontWriter.__module__, emomc.lightning_modules.classifier.Classifier.__module__)
from emomc.cli.search import main
main(["--config", "lenet5_digits", "--print_config"])
"""


def python(*arguments, cwd):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_folders_of_the_same_names_in_the_users_project_do_not_matter(tmp_path):
    for name in ("callbacks", "configs", "lightning_modules"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("MINE = 'mine'\n")
    done = python("-c", CODE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:2] == ["emomc.callbacks.search.front_writer", "emomc.lightning_modules.classifier"]
    # The shipped configurations are found by name, though another configs/ lies here.
    assert "library: runs/lenet5-digits/library" in done.stdout


def test_console_scripts_are_declared():
    scripts = {entry.name: entry.value for entry in entry_points(group="console_scripts") if "emomc" in entry.value}
    assert scripts["emomc-pretrain"] == "emomc.cli.scripts:pretrain"
    assert scripts["emomc-search"] == "emomc.cli.scripts:search"
    assert scripts["emomc-hardware"] == "emomc.cli.scripts:hardware"


def test_types_are_shipped():
    assert files("emomc").joinpath("py.typed").is_file()


@pytest.mark.parametrize(
    "name",
    [
        "Hardware",
        "LayerShape",
        "trace_layers",
        "estimate_energy",
        "estimate_size",
        "prune_by_magnitude",
        "quantize_symmetric",
        "ParetoFront",
        "Library",
        "SearchConfig",
        "run_search",
        "load_compressed",
    ],
)
def test_public_names_can_be_imported_and_are_documented(name):
    thing = getattr(emomc, name)
    assert thing.__doc__
    assert name in dir(emomc)
    namespace = {}
    exec(f"from emomc import {name}", namespace)
    assert namespace[name] is thing


def test_names_that_do_not_exist_are_missed():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = emomc.no_such_name


def test_nothing_happens_at_import(tmp_path):
    code = "import emomc, emomc.common.errors, sys; assert 'torch' not in sys.modules"
    done = python("-c", code, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
