"""Every shipped configuration is one that the commands accept."""

from __future__ import annotations

from importlib.resources import files

import pytest
import yaml

from emomc.cli.command import fields_of, shipped_configs
from emomc.cli.pretrain import build_parser as pretrain_parser
from emomc.cli.search import build_parser as search_parser
from emomc.data.config import DataConfig
from emomc.hardware.description import load_hardware
from emomc.pretraining.config import PretrainingConfig
from emomc.search.config import SearchConfig

SHIPPED = shipped_configs()
HARDWARE = [entry.name for entry in files("emomc.configs.hardware").iterdir() if entry.name.endswith(".yaml")]


def section(name, command):
    return yaml.safe_load(SHIPPED[name])[command]


def test_the_two_of_the_readme_are_shipped():
    assert {"lenet5_digits", "lenet5_mnist"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
class TestEvery:
    def test_has_a_section_for_each_command_and_no_other(self, name):
        assert {"pretrain", "search"} <= set(yaml.safe_load(SHIPPED[name])) <= {"pretrain", "search", "export"}

    def test_is_parsed_by_both_commands_into_what_it_says(self, name):
        for parser, command, kinds in (
            (pretrain_parser(), "pretrain", [PretrainingConfig, DataConfig]),
            (search_parser(), "search", [SearchConfig]),
        ):
            settings = section(name, command)
            parsed = parser.parse_args(["--config", yaml.safe_dump(settings)])
            for kind in kinds:
                values = fields_of(parsed, kind)
                made = kind(
                    **{key: tuple(v) if isinstance(v, list) and command == "search" else v for key, v in values.items()}
                )
                for key in settings.keys() & values.keys():
                    found = getattr(made, key)
                    assert (list(found) if isinstance(found, tuple) else found) == settings[key], key

    def test_both_commands_run_from_their_own_folder(self, name):
        output = section(name, "pretrain").get("output") or "runs/{network}-{dataset}".format(
            **section(name, "pretrain")
        )
        assert section(name, "search")["library"] == f"{output}/library"

    def test_levels_of_the_search_are_those_that_are_made(self, name):
        settings = section(name, "pretrain")
        bounds = {key: value for key, value in settings.items() if key.startswith("pre_prune")}
        levels = PretrainingConfig(**bounds).levels
        search = section(name, "search")
        assert levels[-1] >= 1
        assert any(search.get("lowest_level", 1) <= level <= search.get("highest_level", 100) for level in levels)

    def test_begins_with_what_it_is_for(self, name):
        assert SHIPPED[name].startswith("# ")


@pytest.mark.parametrize("name", HARDWARE)
def test_every_accelerator_loads_by_its_bare_name(name):
    hardware = load_hardware(name.removesuffix(".yaml"))
    assert hardware.name == name.removesuffix(".yaml")
