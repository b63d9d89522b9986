"""
Writes pictures of two coloured shapes with captions, as JSONL, from nothing but installed packages.

    python examples/make_sample_captions.py --output sample_captions --pictures 2000

A caption names colours, shapes and places, all drawn evenly and independently: only the picture tells them.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from modeling_siasamrea.preparation.sample_data import COLORS, SHAPES, draw_shape


SIZE = 64
PLACES = {"left": (0.25, 0.75), "right": (0.75, 0.25)}


def make_picture(rng: np.random.Generator) -> tuple[Image.Image, str]:
    """A picture and its caption."""
    image = Image.fromarray(rng.integers(0, 40, (SIZE, SIZE, 3), dtype=np.uint8))
    draw = ImageDraw.Draw(image)
    place = str(rng.choice(list(PLACES)))
    names = []
    for x in PLACES[place]:
        color, shape = str(rng.choice(list(COLORS))), str(rng.choice(SHAPES))
        center, half = (SIZE * x, SIZE * rng.uniform(0.35, 0.65)), SIZE * 0.2
        box = (center[0] - half, center[1] - half, center[0] + half, center[1] + half)
        draw_shape(draw, shape, box, COLORS[color])
        names.append(f"{color} {shape}")
    return image, f"a {names[0]} {place} of a {names[1]}"


def make_sample_captions(output_dir: str | Path, pictures: int, seed: int = 0) -> Path:
    r"""
    Writes `train.jsonl` and `validation.jsonl` (a tenth as many pictures) and their pictures, unless they are there.

    Args:
        output_dir (`str` or `Path`): The folder.
        pictures (`int`): Training pictures.
        seed (`int`, *optional*, defaults to 0): Seed of all.

    Returns:
        `Path`: the folder.
    """
    output_dir = Path(output_dir)
    if (output_dir / "validation.jsonl").exists():
        return output_dir
    (output_dir / "images").mkdir(parents=True, exist_ok=True)
    for number, (split, count) in enumerate((("train", pictures), ("validation", max(1, pictures // 10)))):
        rng, rows = np.random.default_rng((seed, number)), []
        for index in range(count):
            image, caption = make_picture(rng)
            image.save(output_dir / "images" / f"{split}_{index:05d}.png")
            rows.append({"image": f"images/{split}_{index:05d}.png", "caption": caption})
        (output_dir / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return output_dir


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--pictures", type=int, default=2000, help="training pictures; default: %(default)s")
    arguments = parser.parse_args()
    print(make_sample_captions(arguments.output, arguments.pictures))


if __name__ == "__main__":
    main()
