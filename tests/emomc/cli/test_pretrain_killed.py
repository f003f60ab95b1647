"""A pretraining that is killed at any point and restarted makes the same library as one that is not."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = ["--config", "lenet5_digits", "--pre_train_epochs", "4"]
UNSTRUCTURED = ["--pre_prune_ratio", "0.5", "--pre_prune_epochs", "3"]
PATTERNS = ["--pattern", "unstructured", "2:4", "1:4", "block:4x1", "channel", "--channel_importance", "taylor"]
PATTERNS += ["--channel_multiple", "2", "--pre_prune_ratio", "0.4", "--pre_prune_epochs", "2"]
KILLS = 5


def start(folder: Path, further: list[str]) -> subprocess.Popen[bytes]:
    code = "import sys, torch; torch.set_num_threads(1); from emomc.cli.pretrain import main; sys.exit(main())"
    arguments = [*COMMAND, *further, "--accelerator", "cpu", "--devices", "1", "--output", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def library_bytes(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((folder / "library").iterdir())}


@pytest.mark.slow
@pytest.mark.parametrize("further", [UNSTRUCTURED, PATTERNS], ids=["unstructured", "patterns"])
def test_same_bytes_after_kills(tmp_path, further):
    began = time.monotonic()
    with start(tmp_path / "whole", further) as undisturbed:
        assert undisturbed.wait() == 0, undisturbed.stderr.read()
    seconds = time.monotonic() - began
    moments = random.Random(0)
    killed = 0
    while True:
        with start(tmp_path / "killed", further) as process:
            try:
                # Anywhere from the first import to the end; a run that gets further each time ends some time.
                process.wait(moments.uniform(0.1, 0.9) * seconds if killed < KILLS else None)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                killed += 1
                continue
            assert process.returncode == 0, process.stderr.read()
        if killed >= KILLS:
            break
        # It came to its end before it was killed often enough: the rest of the kills find a finished library.
        killed += 1
    assert library_bytes(tmp_path / "killed") == library_bytes(tmp_path / "whole")
    assert not list((tmp_path / "killed").rglob("*.partial"))
