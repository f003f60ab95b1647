"""Both commands from end to end, their help, and their configurations."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest
import yaml

from emomc.callbacks.search.front_lines import FrontLines
from emomc.callbacks.trainer.epoch_lines import EpochLines
from emomc.cli.pretrain import build_parser as pretrain_parser
from emomc.cli.search import build_parser as search_parser
from emomc.fronts.front_file import check_front
from emomc.library.library import Library

TINY = ("--pre_train_epochs", 2, "--pre_prune_epochs", 1, "--pre_prune_step", 30, "--accelerator", "cpu")


def test_from_nothing_to_a_front(run, tmp_path):
    ran = run("pretrain", *TINY, "--devices", 1)
    assert (ran.status, ran.err) == (0, "")
    library = Library.open(tmp_path / "work" / "runs" / "lenet5-digits" / "library")
    assert library.levels == (100, 80, 50, 20)
    lines = ran.out.splitlines()
    assert lines[0] == "Library: runs/lenet5-digits/library"
    assert sum(bool(re.match(r"dense \(1 of 4\): epoch \d/2, ", line)) for line in lines) == 2
    assert sum(bool(re.match(r"level 0\d0 \(\d of 4\): epoch 1/1, .* density 0\.\d00, ", line)) for line in lines) == 3
    assert lines[-1].startswith("Next: emomc-search --library runs/lenet5-digits/library")

    # The command that the first one names, as it names it.
    _, command, *named = lines[-1].split()
    assert command == "emomc-search"
    tiny = ("--population_size", 6, "--number_generations", 3, "--max_bits", 4)
    ran = run("search", *named, *tiny, "--accelerator", "cpu")
    assert (ran.status, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("generation ")] == [
        f"generation {number}/3" for number in (1, 2, 3)
    ]
    folder = tmp_path / "work" / lines[-1].removeprefix("Files: ")
    names = {path.name for path in folder.iterdir() if path.is_file()}
    files = {"front.csv", "front.json", "front.png", "report.html", "candidates.csv", "evaluations.jsonl"}
    assert files <= names
    assert not any("partial" in name for name in names)
    document = json.loads((folder / "front.json").read_text())
    check_front(document)
    assert document["finished"] is True
    # Every point of the front is in the table that was printed.
    for point in document["points"]:
        assert re.search(rf"^\W*{point['index']}\b.*{100 * point['validation_accuracy']:.2f}", ran.out, re.M)
    assert re.search(r"\d+ candidates asked for, \d+ distinct: \d+ measured \(\d+ of them stopped early", ran.out)

    again = run("search", *named, *tiny, "--accelerator", "cpu")
    assert again.status == 0
    assert " 0 measured" in again.out
    quiet = run("search", *named, *tiny, "--quiet", "true", "--name", "q")
    assert (quiet.status, quiet.out, quiet.err) == (0, "", "")
    assert json.loads((folder.parent / "q" / "front.json").read_text())["points"] == document["points"]


def test_ctrl_c_writes_the_front_and_the_same_command_goes_on(run, library, monkeypatch):
    arguments = ("--library", library.path, "--population_size", 4, "--number_generations", 3, "--max_bits", 4)
    arguments += ("--rounding", "nearest", "--name", "s")
    show = FrontLines.on_generation_end

    def press(self, search):
        show(self, search)
        if search.generation == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(FrontLines, "on_generation_end", press)
    ran = run("search", *arguments)
    assert ran.status == 130
    assert "goes on from here" in ran.out + ran.err
    folder = library.path.parent / "search" / "s"
    assert json.loads((folder / "front.json").read_text())["finished"] is False
    monkeypatch.setattr(FrontLines, "on_generation_end", show)
    assert run("search", *arguments).status == 0
    assert json.loads((folder / "front.json").read_text())["finished"] is True


def test_names_with_spaces_and_letters_of_other_languages(run, tmp_path):
    folder = tmp_path / "Bäume & Straßen 木"
    folder.mkdir()
    (folder / "mein Netz é.py").write_text(
        "from torch import nn\n\n\nclass Größe(nn.Sequential):\n    def __init__(self, num_classes):\n"
        "        super().__init__(nn.Conv2d(1, 4, 9, 4), nn.ReLU(), nn.Flatten(), nn.Linear(144, num_classes))\n"
    )
    network = ("--network", f"{folder}/mein Netz é.py:Größe")
    tiny = ("--pre_train_epochs", 1, "--pre_prune_epochs", 1, "--pre_prune_step", 60, "--accelerator", "cpu")
    assert run("pretrain", *tiny, *network, "--output", folder / "Lauf 1").status == 0
    search = ("--library", folder / "Lauf 1" / "library", "--name", "Größe ändern", "--population_size", 4)
    search += ("--max_bits", 4, "--rounding", "nearest")
    assert run("search", *search, *network, "--number_generations", 1, "--accelerator", "cpu").status == 0
    export = (
        "--run",
        folder / "Lauf 1",
        "--search",
        "Größe ändern",
        "--output",
        folder / "mein Netz.emomc",
        "--verify",
    )
    ran = run("export", *export, *network)
    assert ran.status == 0, ran
    assert "as the front says" in ran.out


@pytest.fixture
def interruptible():
    """A process that was started in the background of a shell ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_while_training_and_the_same_command_goes_on(run, tmp_path, monkeypatch):
    end_of_epoch = EpochLines.on_train_epoch_end

    def press(self, trainer, module):
        end_of_epoch(self, trainer, module)
        os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    arguments = (*TINY, "--devices", 1, "--output", tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(EpochLines, "on_train_epoch_end", press)
        ran = run("pretrain", *arguments)
    assert ran.status == 130
    assert ran.err == "emomc-pretrain: interrupted; the same command goes on from here\n"
    assert signal.getsignal(signal.SIGINT) is handler
    assert run("pretrain", *arguments).status == 0
    assert Library.open(tmp_path / "run" / "library").levels == (100, 80, 50, 20)


def test_flags_override_configurations(run, library, tmp_path):
    (tmp_path / "own.yaml").write_text(
        f"search: {{library: {library.path}, population_size: 4, number_generations: 50, seed: 7, "
        "max_bits: 4, name: named}\n"
    )
    assert run("search", "--config", tmp_path / "own.yaml", "--number_generations", 1).status == 0
    settings = json.loads((library.path.parent / "search" / "named" / "config.json").read_text())
    assert (settings["population_size"], settings["number_generations"], settings["seed"]) == (4, 1, 7)


@pytest.mark.parametrize("command", ["pretrain", "search"])
class TestHelp:
    def test_version(self, run, command):
        ran = run(command, "--version")
        assert ran.status == 0
        assert re.fullmatch(rf"emomc-{command} \d+\.\d+\.\d+\n", ran.out)

    def test_help_names_every_setting(self, run, command):
        ran = run(command, "--help")
        assert ran.status == 0
        parser = {"pretrain": pretrain_parser, "search": search_parser}[command]()
        for action in parser._actions:
            for option in action.option_strings:
                assert option in ran.out

    def test_every_number_has_a_unit_or_a_range(self, command):
        words = (
            r"epoch|percent|share|0\.\.1|2\.\.12|learning rate|weight decay|images|pixels|processes"
            r"|machines|candidates|generations|minutes|0 or more|kib|mj|ms|steps|a count"
        )
        parser = {"pretrain": pretrain_parser, "search": search_parser}[command]()
        numbers = [
            action for action in parser._actions if re.search(r"\b(int|float)\b", str(getattr(action, "_typehint", "")))
        ]
        numbers += [action for action in parser._actions if action.type in (int, float)]
        assert len(numbers) >= 8
        for action in numbers:
            assert re.search(words, str(action.help).lower()), (action.dest, action.help)

    def test_every_setting_is_explained(self, command):
        parser = {"pretrain": pretrain_parser, "search": search_parser}[command]()
        assert [action.dest for action in parser._actions if not action.help] == []

    def test_printed_configuration_is_accepted_back(self, run, tmp_path, command):
        flags = ("--seed", 5, "--precision", "bf16-mixed")
        ran = run(command, *flags, "--print_config")
        assert ran.status == 0
        file = tmp_path / "printed.yaml"
        file.write_text(ran.out)
        assert yaml.safe_load(ran.out)["seed"] == 5
        again = run(command, "--config", file, "--print_config")
        assert (again.status, again.out) == (0, ran.out)


def test_layers_shows_and_writes_what_each_layer_of_a_candidate_costs(run, library):
    options = ("--library", library.path, "--population_size", 6, "--number_generations", 2, "--max_bits", 4)
    options += ("--rounding", "nearest")
    ran = run("search", *options, "--objectives", "accuracy", "size", "--layers", 3)
    assert (ran.status, ran.err) == (0, "")
    (file,) = library.path.parent.glob("search/accuracy-size-*/layers_3.csv")
    header, *rows = file.read_text().splitlines()
    assert header.startswith("layer,kind,macs,bits,density,")
    assert [row.split(",")[0] for row in rows] == [layer.name for layer in library.manifest.layers]
    assert str(file) in ran.out
    # The layers' energies add up to the candidate's.
    column = header.split(",").index("energy_mj")
    candidates = (file.parent / "candidates.csv").read_text().splitlines()
    energy = candidates[4].split(",")[candidates[0].split(",").index("energy_mj")]
    assert sum(float(row.split(",")[column]) for row in rows) == pytest.approx(float(energy))
