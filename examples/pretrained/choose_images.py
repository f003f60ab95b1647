"""Choose some images of each class of a folder: a smaller folder of links to them."""

import argparse
import os
import random
import shutil
from pathlib import Path

SEED = 0


def choose(source: Path, target: Path, counts: dict[str, int]) -> None:
    """Link a random choice of images, always the same.

    Args:
        source: has ``train/CLASS/`` and ``test/CLASS/``; the images of ``val`` are others of ``train``.
        target: the new folder.
        counts: images of each class in ``train``, ``val`` and ``test``.
    """
    if target.exists():
        raise SystemExit(f"expected the name of a new folder, found {target}, which exists")
    links: dict[Path, Path] = {}
    for split, parts in (("train", ("train", "val")), ("test", ("test",))):
        for folder in sorted(path for path in (source / split).iterdir() if path.is_dir()):
            images = sorted(folder.iterdir())
            needed = sum(counts[part] for part in parts)
            if len(images) < needed:
                raise SystemExit(f"expected at least {needed} images in {folder}, found {len(images)}")
            random.Random(SEED).shuffle(images)
            for part in parts:
                links |= {target / part / folder.name / image.name: image for image in images[: counts[part]]}
                images = images[counts[part] :]
    for name, image in links.items():
        link(image, name)


def link(image: Path, name: Path) -> None:
    """Make a hard link, or a copy where the file system has none."""
    name.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(image, name)
    except OSError:
        shutil.copy(image, name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="folder with train/CLASS/ and test/CLASS/")
    parser.add_argument("target", type=Path, help="folder to make")
    for part, count in (("train", 1000), ("val", 100), ("test", 200)):
        parser.add_argument(f"--{part}", type=int, default=count, help=f"images of each class; default: {count}")
    arguments = parser.parse_args()
    choose(arguments.source, arguments.target, {part: getattr(arguments, part) for part in ("train", "val", "test")})
