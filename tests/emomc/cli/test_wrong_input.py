"""Wrong input: status 2, one line that says what was expected and what was found, and nothing written."""

from __future__ import annotations

import json
import re

import pytest

TINY = ("--pre_train_epochs", 1, "--pre_prune_epochs", 0, "--pre_prune_step", 60, "--accelerator", "cpu")

PRETRAIN = {
    "unknown network": (["--network", "lenet6"], "lenet5.*lenet6"),
    "network of no file": (["--network", "nowhere.py:Net"], r"nowhere\.py"),
    "unknown dataset": (["--dataset", "digit"], "digits.*digit"),
    "no image folder": (["--dataset", "imagefolder:nowhere"], "nowhere"),
    "percentage above 100": (["--pre_prune_upper_bound", "101"], "101"),
    "percentage of 0": (["--pre_prune_lower_bound", "0"], "found 0"),
    "bounds the wrong way round": (["--pre_prune_lower_bound", "90"], "90 and 80"),
    "step of 0": (["--pre_prune_step", "0"], "pre_prune_step"),
    "no epochs": (["--pre_train_epochs", "0"], "pre_train_epochs"),
    "epochs that are no number": (["--pre_train_epochs", "many"], "many"),
    "a fraction of an epoch": (["--pre_train_epochs", "1.5"], "1.5"),
    "learning rate that is none": (["--learning_rate", "nan"], "learning_rate.*nan"),
    "learning rate of 0": (["--learning_rate", "0"], "learning_rate"),
    "infinite weight decay": (["--weight_decay", "inf"], "weight_decay"),
    "batch of nothing": (["--batch_size", "0"], "batch_size"),
    "validation of everything": (["--validation_fraction", "1"], "validation_fraction"),
    "unknown optimizer": (["--optimizer", "lion"], "lion"),
    "unknown criterion": (["--criterion", "magnitude"], "magnitude"),
    "unknown schedule": (["--pre_prune_schedule", "loop"], "loop"),
    "missing weights": (["--weights", "nowhere.pt"], r"nowhere\.pt"),
    "pattern without a layer": (["--exclude_layers", "[head]"], "head"),
    "unknown flag": (["--epochs", "3"], "epochs"),
    "value that is missing": (["--seed"], "seed"),
    "word too many": (["extra"], "extra"),
    "unknown configuration": (["--config", "lenet5_digit"], "lenet5_digits.*'lenet5_digit'"),
    "argument the network lacks": (["--network_args", '{"depth": 3}'], "depth"),
    "argument the Trainer lacks": (["--trainer", '{"max_epoch": 3}'], "max_epoch"),
    "unknown accelerator": (["--accelerator", "abacus"], "abacus"),
    "unknown precision": (["--precision", "12-bit"], "12-bit"),
    "a rate of 1e38": (["--learning_rate", "1e38"], r"learning_rate.*1000, found 1e\+38"),
    "batches of 10**30": (["--batch_size", 10**30], "whole number of 31 digits"),
    "images that fill the memory": (
        ["--image_size", 16384],
        "at most 16 GiB .* 1797 of 16384x16384 pixels: lower --image_size",
    ),
    "a network with NUL": (["--network", "a\0b"], "control characters"),
    "an output with NUL": (["--output", "a\0b"], "--output with the folder of a run"),
    "an empty output": (["--output", ""], "--output with the folder of a run, found ''"),
    "an empty data folder": (["--data_dir", ""], "data_dir, found ''"),
    "an empty dataset": (["--dataset", " "], "dataset, found ' '"),
    "more devices than there are numbers": (["--devices", "9" * 300], "at most 65536 devices"),
    "a thousand million devices": (["--devices", 10**9], "at most 65536 devices"),
    "a thousand million machines": (["--num_nodes", 10**9], "at most 65536 devices and num_nodes"),
    "no steps": (["--trainer.max_steps", 0], "trained for its epochs .*trainer.max_steps = 0"),
    "epochs of the Trainer": (["--trainer.max_epochs", 0], "trained for its epochs .*trainer.max_epochs = 0"),
    "a trial run": (["--trainer.fast_dev_run", "true"], "trained for its epochs .*fast_dev_run"),
    "no time": (["--trainer.max_time", "00:00:00:00"], "trained for its epochs .*max_time"),
    "no training images": (["--trainer.limit_train_batches", 0], "images to train on, .*limit_train_batches = 0"),
    "no validation images": (["--trainer.limit_val_batches", 0], "validated on all images, .*limit_val_batches = 0"),
    "one validation batch": (["--trainer.limit_val_batches", 1], "validated on all images, .*limit_val_batches = 1"),
    "no gradients": (["--trainer.accumulate_grad_batches", 0], "accumulate_grad_batches = 0"),
    "gradients the other way": (["--trainer.gradient_clip_val=-1"], "0 or more, found trainer.gradient_clip_val = -1"),
    "validation after no epoch": (["--trainer.check_val_every_n_epoch", 0], "check_val_every_n_epoch = 0"),
    "validation after no batch": (["--trainer.val_check_interval", 0], "val_check_interval = 0"),
    "weights in float64": (["--precision", "64-true"], "keeps weights in float32, .*'64-true'"),
    "weights in float16": (["--trainer.precision", "16-true"], "keeps weights in float32, .*'16-true'"),
    "no checkpoints": (["--trainer.enable_checkpointing", "false"], "enable_checkpointing = False"),
}

SEARCH = {
    "missing library": (["--library", "nowhere"], "nowhere"),
    "0 generations": (["--number_generations", "0"], "number_generations of at least 1, found 0"),
    "a population of 1": (["--population_size", "1"], "population_size of at least 2, found 1"),
    "levels the library lacks": (["--lowest_level", "81", "--highest_level", "90"], "100 %, 80 %, 50 %, 20 %"),
    "level out of range": (["--highest_level", "101"], "101"),
    "unknown dataflow": (["--dataflow", "xz"], "xz"),
    "unknown coding": (["--coding", "zip"], "zip"),
    "coding without a formula": (["--coding", "bitmap", "--accounting", "paper"], "normal, csr, coo.*bitmap"),
    "constraint that is no number": (["--size_constraint", "small"], "small"),
    "negative constraint": (["--size_constraint=-5"], "-5"),
    "constraint on an objective": (["--energy_constraint", "3"], "energy_constraint"),
    "one objective": (["--objectives", "[accuracy]"], "objectives"),
    "unknown objective": (["--objectives", "[accuracy, speed]"], "speed"),
    "unknown hardware": (["--hardware", "tpu"], "emomc_fpga.*tpu"),
    "too many bits": (["--max_bits", "13"], "13"),
    "activation bits out of range": (["--activation_bits", "4", "17"], r"activation_bits of 2\.\.16, found 17"),
    "activation bits twice": (["--activation_bits", "4", "8", "4"], "activation_bits that differ, found 4 8 4"),
    "activation bits in words": (["--activation_bits", "4", "eight"], "activation_bits.*eight"),
    "no activation bits": (["--activation_bits"], "activation_bits"),
    "activation bits that nothing depends on": (
        ["--activation_bits", "4", "8", "--objectives", "accuracy", "size"],
        "energy or latency among the objectives or constraints with several activation_bits",
    ),
    "unknown pick": (["--pick", "best"], "knee.*best"),
    "unknown algorithm": (["--algorithm", "nsga1"], "nsga1"),
    "patience of 0": (["--patience", "0"], "patience"),
    "negative seed": (["--seed=-1"], "seed"),
    "time that is none": (["--max_time", "soon"], "soon"),
    "negative time": (["--max_time=-1"], "max_time|minutes"),
    "NaN time": (["--max_time", "nan"], "max_time|minutes"),
    "devices that are none": (["--devices", "0", "--accelerator", "cpu"], "devices|0"),
    "unknown accelerator": (["--accelerator", "abacus"], "abacus"),
    "name that leads elsewhere": (["--name", "../../elsewhere"], "elsewhere"),
    "unknown precision": (["--precision", "12-bit"], "12-bit"),
    "unknown flag": (["--generations", "3"], "generations"),
    "a seed of 300 digits": (["--seed", "9" * 300], "whole number of 300 digits"),
    "a population that fills the memory": (["--population_size", 100_000], "population_size of at most 5000"),
    "a name with NUL": (["--name", "a\0b"], "the name of a folder"),
    "a name of two lines": (["--name", "a\nb"], "the name of a folder"),
    "an empty name": (["--name", ""], "the name of a folder, found ''"),
    "an empty dataset": (["--dataset", ""], "--dataset with a name, found ''"),
    "an empty network": (["--network", ""], "--network with a name, found ''"),
    "an empty data folder": (["--data_dir", " "], "--data_dir with a name, found ' '"),
    "a dataset with NUL": (["--dataset", "a\0b"], "--dataset with a name"),
    "a pick with a colon too many": (["--pick", "knee:"], "a pick such as safe"),
    "more devices than there are numbers": (["--devices", "9" * 300], "at most 65536 devices"),
    "more machines than there are": (["--num_nodes", 10**9], "at most 65536 devices and num_nodes"),
    "epochs of tuning without end": (["--finetune_epochs", 10**9], "fine-tuning, and at most 1000000"),
    "minutes without end": (["--max_time", "1e38"], "max_time above 0 and up to 10000000"),
}

YAML = {
    "unknown key": ("pretrain: {epochs: 3}\nsearch: {generations: 3}\n", "epochs|generations"),
    "unknown section": ("pretrain: {}\nsearch: {}\nserch: {seed: 1}\n", "serch"),
    "wrong type": ("pretrain: {seed: one}\nsearch: {seed: one}\n", "one"),
    "no settings": ("- 1\n- 2\n", "list"),
    "no YAML": ("pretrain: {seed: [\n", "YAML"),
    "a section that is no mapping": ("pretrain: 3\nsearch: 3\n", "3"),
}


def check(ran, command, words):
    assert ran.status == 2, ran
    lines = ran.err.splitlines()
    assert len(lines) == 1, ran.err
    assert lines[0].startswith(f"emomc-{command}: error: ")
    assert "Traceback" not in ran.err + ran.out
    assert re.search(words, lines[0]), lines[0]
    # One short sentence.
    assert len(lines[0]) < 700


@pytest.mark.parametrize("case", PRETRAIN)
def test_pretrain(run, snapshot, case):
    arguments, words = PRETRAIN[case]
    before = snapshot()
    check(run("pretrain", *TINY, *arguments), "pretrain", words)
    assert snapshot() == before


@pytest.mark.parametrize("case", SEARCH)
def test_search(run, snapshot, library, case):
    arguments, words = SEARCH[case]
    tiny = ("--population_size", 4, "--number_generations", 1, "--max_bits", 4, "--rounding", "nearest")
    before = snapshot()
    check(run("search", "--library", library.path, *tiny, *arguments), "search", words)
    assert snapshot() == before


@pytest.mark.parametrize("command", ["pretrain", "search"])
@pytest.mark.parametrize("case", YAML)
def test_configuration_files(run, snapshot, library, tmp_path, command, case):
    text, words = YAML[case]
    (tmp_path / "own.yaml").write_text(text)
    tiny = TINY if command == "pretrain" else ("--library", library.path, "--number_generations", 1)
    before = snapshot()
    check(run(command, *tiny, "--config", tmp_path / "own.yaml"), command, words)
    assert snapshot() == before


def test_search_without_a_library(run, snapshot):
    before = snapshot()
    check(run("search"), "search", "--library")
    assert snapshot() == before


def test_a_library_of_a_newer_version(run, snapshot, library):
    manifest = library.path / "library.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format_version": 99}))
    before = snapshot()
    check(run("search", "--library", library.path), "search", "format version 1 .*99")
    assert snapshot() == before


def test_a_damaged_level(run, library):
    (library.path / "level_050.safetensors").write_bytes(b"damaged")
    check(run("search", "--library", library.path), "search", "checksum")


def test_other_settings_than_those_of_the_library(run, snapshot, library):
    before = snapshot()
    ran = run("pretrain", *TINY, "--output", library.path.parent, "--learning_rate", 0.5)
    check(ran, "pretrain", "--overwrite")
    assert {name: text for name, text in snapshot().items() if not name.endswith(".lock")} == before


def test_other_settings_than_those_of_the_search(run, library):
    tiny = (
        "--library",
        library.path,
        "--population_size",
        4,
        "--number_generations",
        1,
        "--max_bits",
        4,
        "--rounding",
        "nearest",
        "--name",
        "s",
    )
    assert run("search", *tiny, "--quiet", "true").status == 0
    check(run("search", *tiny, "--seed", 3), "search", "seed = 3 .*found one with 0")
