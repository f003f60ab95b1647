"""The worked example does what its README says, in fewer epochs."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from emomc.cli import pretrain, search
from emomc.fronts.front_file import read_front

EXAMPLE = Path(__file__).parents[2] / "examples" / "bring_your_own"
SHORT = {
    "emomc-pretrain": "--pre_train_epochs 1 --pre_prune_lower_bound 20 --pre_prune_step 60 --accelerator cpu",
    "emomc-search": "--number_generations 1 --population_size 3 --max_bits 5 --accelerator cpu",
}
MAINS = {"emomc-pretrain": pretrain.main, "emomc-search": search.main}


def commands(section: int) -> list[list[str]]:
    """The commands of one of the README's code blocks for a shell."""
    block = re.findall(r"```sh\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)[section]
    return [shlex.split(line) for line in block.replace("\\\n", " ").splitlines()]


@pytest.mark.parametrize("section", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_commands_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: int):
    for file in EXAMPLE.glob("*.py"):
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    ran = []
    for program, *arguments in commands(section):
        if program == "python":
            subprocess.run([sys.executable, *arguments, "--train", "10", "--test", "4"], check=True)
        else:
            assert MAINS[program]([*arguments, *SHORT[program].split()]) == 0
        ran.append(program)
    assert ran[-2:] == ["emomc-pretrain", "emomc-search"]
    (front,) = Path("runs/smallnet-shapes/search").glob("*/front.json")
    names = [layer["name"] for layer in read_front(front)["layers"]]
    assert len(names) == 7
    assert names[0] == "stem.0"
    assert names[-1] == "classify"
