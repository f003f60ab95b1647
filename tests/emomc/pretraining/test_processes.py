"""Stage I on two processes: both always have the same network, and they write one library."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from emomc.library.library import Library
from emomc.library.manifest import DENSE

SCRIPT = """
import json, sys
from pathlib import Path
import pytorch_lightning as pl
from emomc.runtime.digests import tensor_digest
from emomc.data.config import DataConfig
from emomc.runtime.devices import Devices
from emomc.pretraining.prepare import prepare_library
from emomc.pretraining.config import PretrainingConfig

folder = Path(sys.argv[1])

class WriteDigests(pl.Callback):
    def __init__(self, stage):
        self.stage = stage

    def on_validation_end(self, trainer, module):
        masks = getattr(module, "masks", {})
        line = [self.stage, trainer.current_epoch, trainer.world_size, sorted(masks)]
        line += [tensor_digest(*(masks[name] for name in sorted(masks))), tensor_digest(*module.network.parameters())]
        with (folder / f"rank-{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\\n")

prepare_library(
    PretrainingConfig(
        pre_train_epochs=2, pre_prune_upper_bound=60, pre_prune_lower_bound=20, pre_prune_step=40,
        pre_prune_epochs=2, criterion="global",
    ),
    DataConfig(batch_size=64),
    folder / "run",
    devices=Devices(accelerator="cpu", devices=2, strategy="ddp"),
    callbacks=lambda stage: [WriteDigests(stage)],
)
"""


@pytest.mark.slow
def test_masks_and_weights_are_the_same_on_both(tmp_path):
    script = tmp_path / "two_processes.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = ((tmp_path / f"rank-{rank}.jsonl").read_text().splitlines() for rank in (0, 1))
    assert first == second
    stages = [json.loads(line) for line in first]
    # Each stage is validated once more when its last epoch is over.
    assert [line[0] for line in stages] == ["dense"] * 3 + ["level 060"] * 3 + ["level 020"] * 3
    assert all(line[2] == 2 for line in stages)
    assert len({line[5] for line in stages}) >= 6, "the weights move in every epoch"
    assert all(bool(line[3]) == (line[0] != "dense") for line in stages)

    library = Library.open(tmp_path / "run" / "library")
    assert library.levels == (DENSE, 60, 20)
    for percent in (60, 20):
        state = library.load_state(percent)
        weights = [state[f"{layer.name}.weight"] for layer in library.manifest.compressed_layers]
        kept = sum(int(weight.count_nonzero()) for weight in weights) / sum(weight.numel() for weight in weights)
        assert abs(100 * kept - percent) < 0.5
    assert library.record(20).validation_accuracy > 0.5
