"""Folders that an installed package brings along; a clone keeps them where people look for them."""

from pathlib import Path


PACKAGE = Path(__file__).resolve().parents[1]


def packaged_folder(installed: str, in_clone: str) -> Path:
    """The folder of an installed package, or where there is none that of the clone."""
    folder = PACKAGE / installed
    return folder if folder.is_dir() else PACKAGE.parent / in_clone


CONFIGS = packaged_folder("configs", "examples/configs")
MODEL_CARDS = packaged_folder("model_cards", "model_cards")
