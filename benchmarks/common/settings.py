"""The settings of the shipped configurations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import yaml

from emomc.cli.command import shipped_configs
from emomc.data.config import DataConfig
from emomc.pretraining.config import PretrainingConfig


def shipped_settings(config: str, section: str) -> dict[str, Any]:
    """Return the settings of one section, ``pretrain`` or ``search``, of a shipped configuration."""
    return dict(yaml.safe_load(shipped_configs()[config])[section])


def fields_in(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are fields of a dataclass."""
    return {field.name: values[field.name] for field in dataclasses.fields(kind) if field.name in values}


def stage_one_configs(values: Mapping[str, Any]) -> tuple[PretrainingConfig, DataConfig]:
    """Return what ``emomc-pretrain`` would make of settings by name; one seed is that of both."""
    return (
        PretrainingConfig(**fields_in(PretrainingConfig, values)),
        DataConfig(**fields_in(DataConfig, values)),
    )
