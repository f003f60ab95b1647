"""Draw a folder of images to try things with: shapes of random colour, place and size on a noisy ground.

    python make_images.py FOLDER [--train 150] [--test 50] [--size 32]

makes FOLDER/train/CLASS/*.png and FOLDER/test/CLASS/*.png, the layout that ``--dataset imagefolder:FOLDER`` reads.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("cross", "disc", "ring", "square", "triangle")


def main(argv: Sequence[str] | None = None) -> None:
    """Make the folder that the command line names."""
    parser = argparse.ArgumentParser(description="Draw a folder of images of five classes.")
    parser.add_argument("folder", type=Path, help="folder to make")
    parser.add_argument("--train", type=int, default=150, help="training images of each class (default: 150)")
    parser.add_argument("--test", type=int, default=50, help="test images of each class (default: 50)")
    parser.add_argument("--size", type=int, default=32, help="height and width in pixels (default: 32)")
    arguments = parser.parse_args(argv)
    random = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in CLASSES:
            folder = arguments.folder / part / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(getattr(arguments, part)):
                draw(name, arguments.size, random).save(folder / f"{number:05d}.png")


def draw(name: str, size: int, random: np.random.Generator) -> Image.Image:
    """Draw one shape.

    Args:
        name: one of ``CLASSES``.
        size: height and width of the image, pixels.
        random: says where, how large, in which colours.
    """
    ground = random.integers(0, 110, 3) + random.integers(0, 40, (size, size, 3))
    image = Image.fromarray(ground.astype(np.uint8))
    colour = tuple(int(value) for value in random.integers(140, 256, 3))
    half = size * random.uniform(0.18, 0.36)
    x, y = random.uniform(half, size - half, 2)
    box = (x - half, y - half, x + half, y + half)
    thick = max(2, round(half / 2.5))
    pen = ImageDraw.Draw(image)
    if name == "cross":
        pen.line((x - half, y - half, x + half, y + half), colour, thick)
        pen.line((x - half, y + half, x + half, y - half), colour, thick)
    elif name == "disc":
        pen.ellipse(box, colour)
    elif name == "ring":
        pen.ellipse(box, outline=colour, width=thick)
    elif name == "square":
        pen.rectangle(box, colour)
    else:
        pen.polygon([(x, y - half), (x - half, y + half), (x + half, y + half)], colour)
    return image


if __name__ == "__main__":
    main()
