"""The page for users of the reference names commands, flags, choices and defaults that exist."""

import re
from pathlib import Path

import pytest

from emomc.cli import pretrain, search
from emomc.cli.command import shipped_configs

PAGE = (Path(__file__).parents[2] / "docs" / "from_the_reference.md").read_text()
# The reference's own flags, in the first columns of the tables; those that kept their names are in both lists.
REFERENCE_FLAGS = {
    "working_mode",
    "device_id",
    "network_type",
    "dataset_type",
    "dataflow_type",
    "coding_type",
    "population_size",
    "number_generations",
    "size_constraint",
    "energy_constraint",
    "pre_train_epochs",
    "pre_prune_upper_bound",
    "pre_prune_lower_bound",
    "pre_prune_step",
    "pre_prune_epochs",
}


def flags_of(*parsers) -> set[str]:
    return {option[2:] for parser in parsers for action in parser._actions for option in action.option_strings}


def defaults() -> dict[str, object]:
    return {**vars(search.build_parser().get_defaults()), **vars(pretrain.build_parser().get_defaults())}


def test_every_flag_of_the_reference_is_on_the_page():
    assert set(re.findall(r"--(\w+)", PAGE)) >= REFERENCE_FLAGS


def test_every_other_flag_on_the_page_exists():
    ours = flags_of(pretrain.build_parser(), search.build_parser())
    assert set(re.findall(r"--(\w+)", PAGE)) - REFERENCE_FLAGS <= ours


def test_parameters_that_kept_their_names_are_in_the_right_command():
    assert {flag for flag in REFERENCE_FLAGS if flag.startswith("pre_")} <= flags_of(pretrain.build_parser())
    kept = {"population_size", "number_generations", "size_constraint", "energy_constraint", "dataflow", "coding"}
    assert kept <= flags_of(search.build_parser())
    assert {"devices", "accelerator", "num_nodes", "seed", "version"} <= flags_of(pretrain.build_parser())
    assert {"devices", "accelerator", "num_nodes", "seed", "version"} <= flags_of(search.build_parser())


def test_defaults_in_the_table_are_those_of_the_commands():
    table = PAGE.split("## Flags")[1].split("## Codes")[0]
    known = defaults()
    rows = 0
    for row in table.splitlines():
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        flag = re.match(r"`--(\w+)", cells[2]) if len(cells) == 4 else None
        if flag and flag[1] in known:
            expected = cells[3].split(":")[0].strip("`")
            found = known[flag[1]]
            assert expected == ("none" if found is None else str(found)), flag[1]
            rows += 1
    assert rows == len(REFERENCE_FLAGS - {"working_mode"})


@pytest.mark.parametrize("line", sorted(set(re.findall(r"^emomc-.*$", PAGE, re.MULTILINE))))
def test_commands_in_code_blocks_parse(line: str):
    program, _, name = line.split()
    assert program in ("emomc-pretrain", "emomc-search")
    assert name == "--config" or name in shipped_configs()


def test_configurations_on_the_page_are_shipped():
    pairings = ("lenet5_mnist", "mobilenet_cifar10", "vgg16_cifar10", "resnet18_cifar10")
    for pairing in pairings:
        assert f"`{pairing}`" in PAGE
        assert {pairing, f"{pairing}_reference"} <= set(shipped_configs())
