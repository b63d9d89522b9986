"""Draws answers and an [`Inspection`] by the macros of `drawing.html`, for light and dark pages."""

import base64
import io
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader
from PIL import Image

from .inspection import Inspection


STYLE = Path(__file__).with_suffix(".css")  # for the page that shows the drawings
Cell = tuple[str, str, float]  # text, color of drawing.css, percentage of the color


def picture(frame: np.ndarray) -> str:
    """Returns a frame `(height, width, 3)` as an address that holds the picture itself."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def affinity_cells(affinity: np.ndarray) -> list[list[Cell]]:
    """Colors the affinity `(clips, clips)` on a fixed scale, on which the plain average has half of the color."""
    average = 1 / (len(affinity) - 1)
    cells = [[(f"{value:.3f}", "strong", min(35 * value / average, 70)) for value in row] for row in affinity]
    for number in range(len(affinity)):
        cells[number][number] = ("–", "strong", 0.0)
    return cells


def greatest_classes(seen: Inspection) -> np.ndarray:
    """Returns the indices of the five likeliest classes, of the anchor clip or in the soft label."""
    return np.argsort(-np.maximum(seen.scores[0], seen.soft_label))[:5]


TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
)
TEMPLATES.filters["picture"] = picture
TEMPLATES.globals |= {"zip": zip, "affinity_cells": affinity_cells, "greatest_classes": greatest_classes}
draw = TEMPLATES.get_template("drawing.html").module  # each macro is a function that returns HTML
