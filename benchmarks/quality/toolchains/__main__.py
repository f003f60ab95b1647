"""Give the ONNX files of compressed networks to the tools that they are written for, and compare what these compute.

    python -m benchmarks.quality.toolchains --folder runs/toolchains --output docs/results/toolchains.md

For each tool an environment is made from the package index, in pinned versions; one that is there already is used
again (10 GB and half an hour for all). LeNet-5, torchvision's MobileNetV2 and a narrow ResNet-18 are trained for a
minute each on digits, pruned, and quantized to 8, 4 and 6 bits in turn with inputs of 8 bits. Each file is what
``emomc-export --target`` writes for the tool, and is run on the test images in the tool's own environment. What was
written and tried already, in FOLDER/files/NETWORK, is used again. tinygrad needs clang on the PATH.
"""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

from benchmarks.common.command_line import argument_parser
from benchmarks.common.environments import environment_of
from benchmarks.common.page import made_by, publish
from benchmarks.quality.toolchains.networks import NETWORKS, CompressedNetwork
from benchmarks.quality.toolchains.page import page
from benchmarks.quality.toolchains.tools import TOOLS
from benchmarks.quality.toolchains.trials import Trial, keep_trial, kept_trial, try_tool
from emomc.runtime.notices import quiet_lightning


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS), help="all if not given")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="all if not given")
    parser.add_argument("--folder", type=Path, default=Path("runs/toolchains"), help="of networks, files, environments")
    parser.add_argument(
        "--environments", type=Path, help="folder of the environments; FOLDER/environments if not given"
    )
    parser.add_argument("--images", type=int, default=100, help="test images that are run, at most")
    parser.add_argument("--minutes", type=float, default=10, help="limit of one tool with one network")
    parser.add_argument("--kept", action="store_true", help="make the page of what was tried before, and try nothing")
    parser.add_argument("--output", type=Path, help="markdown file to write, besides printing")
    arguments = parser.parse_args()
    folder = arguments.environments or arguments.folder / "environments"
    environments = {}
    for name in arguments.tools:
        if not TOOLS[name].not_tried:
            environments[name] = environment_of(
                folder.absolute() / name, TOOLS[name].packages, install=not arguments.kept
            )
            print(f"{name}: {environments[name].reason or environments[name].versions}", flush=True)
    tools = [TOOLS[name] for name, environment in environments.items() if not environment.reason]
    trials: list[Trial] = []
    with quiet_lightning():
        for network in arguments.networks:
            files = arguments.folder / "files" / network
            files.mkdir(parents=True, exist_ok=True)
            kept = {tool.name: kept_trial(files / f"{tool.name}.json") for tool in tools}
            if not arguments.kept and None in kept.values():
                compressed = CompressedNetwork(NETWORKS[network], arguments.folder / "networks", arguments.images)
                for tool in tools:
                    if kept[tool.name] is None:
                        trial = try_tool(tool, environments[tool.name], compressed, files, 60 * arguments.minutes)
                        keep_trial(files / f"{tool.name}.json", trial)
                        kept[tool.name] = trial
                        print(trial, flush=True)
            trials += [trial for trial in kept.values() if trial is not None]
    versions = f"Python {platform.python_version()}, torch {version('torch')}"
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {versions}"
    publish(page(trials, environments, f"{made_by()}; {machine}"), arguments.output)


if __name__ == "__main__":
    main()
