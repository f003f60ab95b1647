"""One tool with one network: the file is written, read by the tool and run on the images."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.common.environments import Environment, run_script
from benchmarks.quality.toolchains.networks import CompressedNetwork
from benchmarks.quality.toolchains.tools import TOOLS, Tool
from emomc.common.files import read_json, write_json


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a tool did with the file of a network."""

    tool: Tool
    network: str
    refused: str = ""
    """Why the tool does not run the file; empty: it does."""
    largest: float | None = None
    """Largest difference of a logit from the project's own network, relative to the largest logit."""
    median: float | None = None
    """The same of the median image, relative to its own largest logit."""
    equal: float | None = None
    """Share of images that get the same class, 0..1."""
    integer_layers: int | None = None
    """Convolutions and linear layers that were computed with integers; None: the tool does not tell."""
    layers: int | None = None
    """All of them."""
    note: str = ""
    """What else the tool tells."""


def try_tool(
    tool: Tool, environment: Environment, compressed: CompressedNetwork, folder: Path, seconds: float
) -> Trial:
    """Write the file that a tool takes, if it is not there, and run it.

    Args:
        tool: the tool.
        environment: of the tool.
        compressed: the network.
        folder: where files are written.
        seconds: limit of the tool's time.
    """
    model, images, scores = (folder / name for name in (f"{tool.target}.onnx", "images.npy", f"{tool.name}.npy"))
    np.save(images, compressed.images.contiguous().numpy())
    np.save(folder / "calibration.npy", compressed.training_images.contiguous().numpy())
    scores.unlink(missing_ok=True)
    if not model.exists():
        compressed.write(model, tool.target, tool.activation_bits)
    told, refused = run_script(environment.python, tool.runner, [model, images, scores], seconds)
    trial = Trial(tool, compressed.tried.name, refused)
    if refused:
        return trial
    trial = dataclasses.replace(trial, **json.loads(told))
    if not tool.gives_scores:
        return trial
    return compared(trial, torch.from_numpy(np.load(scores)), compressed.scores(tool.activation_bits))


def kept_trial(path: Path) -> Trial | None:
    """Return a trial that was kept in a file; None: there is none."""
    if not path.exists():
        return None
    values = read_json(path, "a trial")
    return Trial(**{**values, "tool": TOOLS[values["tool"]]})


def keep_trial(path: Path, trial: Trial) -> None:
    """Write a trial to a file."""
    values = {field.name: getattr(trial, field.name) for field in dataclasses.fields(trial)}
    write_json(path, {**values, "tool": trial.tool.name})


def compared(trial: Trial, found: Tensor, expected: Tensor) -> Trial:
    """Return a trial with the differences of scores, (images, classes)."""
    if found.shape != expected.shape or not bool(found.isfinite().all()):
        return dataclasses.replace(trial, refused=f"gives scores of shape {tuple(found.shape)}, or not finite ones")
    off = (found - expected).abs()
    return dataclasses.replace(
        trial,
        largest=float(off.max() / expected.abs().max()),
        median=float((off.amax(1) / expected.abs().amax(1)).median()),
        equal=float((found.argmax(1) == expected.argmax(1)).double().mean()),
    )
