"""The examples of tasks: the commands of their README, and the notebook's one call."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from emomc.cli import export, pretrain, search
from emomc.common.run_folder import find_finished_search
from emomc.fronts.front_file import read_front

EXAMPLES = Path(__file__).parents[2] / "examples"
COMMANDS = re.findall(r"^emomc-.*$", (EXAMPLES / "tasks" / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
MAINS = {"emomc-pretrain": pretrain.main, "emomc-search": search.main, "emomc-export": export.main}
MORE = {"emomc-pretrain": ["--accelerator", "cpu", "--devices", "1"], "emomc-search": ["--accelerator", "cpu"]}


@pytest.mark.slow
@pytest.mark.parametrize("example", ["segmentation", "spikes", "regression"])
def test_the_commands_of_an_example_end_with_a_file_that_its_own_test_has_run(
    example, tmp_path, monkeypatch, capsys, recwarn
):
    monkeypatch.chdir(tmp_path)
    own = [command for command in COMMANDS if f"{example}.py" in command]
    assert len(own) == 3
    for command in own:
        name, *words = shlex.split(command.replace(f"{example}.py", str(EXAMPLES / "tasks" / f"{example}.py")))
        assert MAINS[name]([*words, *MORE.get(name, [])]) == 0, command
    front = read_front(find_finished_search(tmp_path / "runs" / example, None).front)
    assert len(front["points"]) >= 8
    printed = capsys.readouterr().out
    assert re.search(rf"Read back: test {front['metric']['name']} [\d.]+, as the front says", printed)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    """As a script, without a kernel: its cells are plain Python, and need no further package."""
    cells = json.loads((EXAMPLES / "compress.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    (tmp_path / "tasks").symlink_to(EXAMPLES / "tasks")
    (tmp_path / "notebook.py").write_text(
        "\n".join([*code, "print(_ := found.export('again.emomc'))"]), encoding="utf-8"
    )
    ran = subprocess.run([sys.executable, "notebook.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "generation 6/6" in ran.stdout
    assert "as the front says" in ran.stdout
