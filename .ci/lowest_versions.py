"""Print the oldest versions that setup.cfg allows of what EMOMC needs to run, as constraints for pip."""

from __future__ import annotations

import configparser
from pathlib import Path


def lowest(requirements: str) -> list[str]:
    """Return ``name==version`` for each line ``name[extra]>=version``."""
    lines = [line.strip() for line in requirements.splitlines() if ">=" in line]
    return [f"{line.split('>=')[0].split('[')[0]}=={line.split('>=')[1]}" for line in lines]


if __name__ == "__main__":
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[1] / "setup.cfg", encoding="utf-8")
    print("\n".join(lowest(setup["options"]["install_requires"])))
