"""Pairs of pictures (or videos) and captions for pretraining: reads them, masks words and exchanges texts."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from transformers import DataCollatorForLanguageModeling
from transformers.utils import logging

from ..processors.processing_siasamrea import SiaSamReaProcessor
from ..processors.video_decoding import VIDEO_SUFFIXES, VideoDecodingError
from ..processors.video_processing_siasamrea import stack_padded
from .folder_files import FolderFiles
from .questions import text_cell, text_cells
from .tables import SUFFIXES, check_objects, load_dataset, parse_json, read_text, rows_of


logger = logging.get_logger(__name__)


class Caption(NamedTuple):
    """
    A picture or video and a text about it.

    Args:
        picture (`str` or `Callable`): Path of an image or video file, or a function that returns it or the image.
        text (`str`): The caption.
        picture_id (`str`): The same for all captions of a picture.
    """

    picture: str | Callable[[], str | Image.Image]
    text: str
    picture_id: str


def load_captions(source: str | Path, folder: str | Path | None = None, split: str = "train") -> list[Caption]:
    r"""
    Reads captions as they are published.

    Args:
        source (`str` or `Path`):
            COCO's `captions_*.json`; Visual Genome's `region_descriptions.json`; a JSONL, JSON, CSV or Parquet file
            with the columns `image` or `video`, and `caption`; or a `datasets` name with such columns (each caption of
            a list makes a pair).
        folder (`str` or `Path`, *optional*): Where relative paths start; Visual Genome's files are below it.
        split (`str`, *optional*, defaults to `"train"`): Split of a data set that is given by name.

    Returns:
        `list[Caption]`: one for each pair, in the file's order.

    Raises:
        `ValueError`: If there are no pairs, or a row has no picture or no caption; says which.
    """
    folder, path = Path(folder or "."), Path(source)
    content = parse_json(read_text(path), str(path)) if path.suffix.lower() == ".json" else None
    if isinstance(content, dict) and "annotations" in content:
        rows = _rows_of_coco(content, folder, str(path))
    elif isinstance(content, list) and content and isinstance(content[0], dict) and "regions" in content[0]:
        rows = _rows_of_regions(content, folder, str(path))
    elif path.suffix.lower() in SUFFIXES and path.suffix.lower() != ".parquet":
        rows = _rows_of_table(source, folder, split)
    else:
        rows = _rows_of_dataset(str(source), folder, split)
    captions = []
    for where, picture, texts, picture_id in rows:
        texts = text_cells(texts, "caption", where)
        if picture is None or not texts:
            raise ValueError(f"{where}: a row needs an image or a video, and a caption.")
        captions += [Caption(picture, text, picture_id) for text in texts]
    if not captions:
        raise ValueError(f"{source} has no captions.")
    return captions


# Where a row is, for errors; its picture; a text or several; and the picture's id.
Row = tuple[str, str | Callable[[], str | Image.Image] | None, Any, str | None]


def _rows_of_coco(content: dict, folder: Path, name: str) -> Iterator[Row]:
    """Yields the annotations of COCO's `captions_*.json`."""
    images = check_objects(content.get("images") or [], f"{name}, images")
    files = {image.get("id"): image.get("file_name") for image in images}
    for number, row in enumerate(check_objects(content["annotations"] or [], f"{name}, annotations"), start=1):
        where, file = f"{name}, annotation {number}", files.get(row.get("image_id"))
        if file is None:
            raise ValueError(f"{where}: there is no image with the id {row.get('image_id')!r} and a file_name.")
        yield where, str(folder / file), row.get("caption"), str(row["image_id"])


def _rows_of_regions(content: list, folder: Path, name: str) -> Iterator[Row]:
    """Yields the regions of Visual Genome's `region_descriptions.json`."""
    files = FolderFiles(folder, (".jpg",))
    for number, image in enumerate(check_objects(content, name), start=1):
        where = f"{name}, image {number}"
        picture_id = text_cell(image.get("id"), "id", where)
        picture = picture_id and files.find(f"{picture_id}.jpg")
        for region in check_objects(image.get("regions") or [], f"{where}, regions"):
            yield where, picture, region.get("phrase"), picture_id


def _rows_of_table(source: str | Path, folder: Path, split: str) -> Iterator[Row]:
    """Yields the rows of a file with the columns `image` or `video`, and `caption`."""
    for number, row in enumerate(rows_of(source, split), start=1):
        where = f"{source}, row {number}"
        picture = text_cell(row.get("image"), "image", where) or text_cell(row.get("video"), "video", where)
        yield where, picture and str(folder / picture), row.get("caption"), picture


def _rows_of_dataset(name: str, folder: Path, split: str) -> Iterator[Row]:
    """Yields the rows of a data set that `datasets` knows; its pictures are read when they are needed."""
    dataset = load_dataset(name, split)
    column = next((column for column in ("image", "video") if column in dataset.column_names), None)
    if column is None or "caption" not in dataset.column_names:
        raise ValueError(f"{name} needs the columns image or video, and caption; it has {dataset.column_names}.")
    for row, texts in enumerate(dataset["caption"]):
        yield f"{name}, row {row + 1}", partial(_picture_of_dataset, dataset, row, column, folder), texts, str(row)


def _picture_of_dataset(dataset: Any, row: int, column: str, folder: Path) -> str | dict | Image.Image:
    picture = dataset[row][column]
    return str(folder / picture) if isinstance(picture, str) else picture


class CaptionDataset(Dataset):
    r"""
    Returns pairs of frames and texts; a picture is a video of one frame.

    Args:
        captions (`list[Caption]`): The pairs.
        processor ([`SiaSamReaProcessor`]): Resizes and normalises the frames.
        training (`bool`, *optional*, defaults to `False`): Whether a video's clip is random.

    A picture that cannot be read is replaced by the next that can; it is named in a warning.
    """

    def __init__(self, captions: list[Caption], processor: SiaSamReaProcessor, training: bool = False):
        self.captions = captions
        self.video_processor = processor.video_processor
        self.training = training

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.captions)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads `pixel_values_videos` `(1, frames, 3, height, width)`, `frame_mask` `(frames,)` and the text."""
        for place in range(len(self.captions)):
            number = (index + place) % len(self.captions)
            caption = self.captions[number]
            try:
                features = self._frames(caption.picture)
            except (OSError, VideoDecodingError) as error:
                logger.warning_once(f"{caption.picture} cannot be read and the next takes its place: {error}")
                continue
            return {**features, "text": caption.text, "picture_id": caption.picture_id, "index": number}
        raise ValueError(f"None of the {len(self.captions)} pictures can be read; the first is {caption.picture}.")

    def _frames(self, picture: str | Callable[[], str | dict | Image.Image]) -> dict[str, torch.Tensor]:
        picture = picture() if callable(picture) else picture
        is_video = isinstance(picture, str) and os.path.splitext(picture)[1].lower() in VIDEO_SUFFIXES
        if is_video or isinstance(picture, dict):  # a data set's videos are dictionaries of a path and bytes
            seed = int(torch.randint(2**31, ())) if self.training else None
            video, how = picture, {"training": self.training, "seed": seed, "num_clips": 1, "num_eval_clips": 1}
        else:
            image = Image.open(picture) if isinstance(picture, str) else picture
            video, how = np.asarray(image.convert("RGB"))[None], {"do_sample_frames": False}
        features = self.video_processor([video], return_tensors="pt", **how)
        return {name: features[name][0] for name in ("pixel_values_videos", "frame_mask")}


class PretrainingCollator:
    r"""
    Makes a batch of [`CaptionDataset`]'s items: about half of the texts are exchanged for another picture's, and of
    the others 15 % of the words are masked (ClipBERT).

    Args:
        processor ([`SiaSamReaProcessor`]): Tokenizes the texts.
        max_length (`int`, *optional*, defaults to 20): Longest text in tokens (ClipBERT).
        mask_probability (`float`, *optional*, defaults to 0.15): Share of masked words (ClipBERT).
        training (`bool`, *optional*, defaults to `False`):
            Random masks and exchanges; otherwise they depend on the rows alone.
    """

    def __init__(
        self,
        processor: SiaSamReaProcessor,
        max_length: int = 20,
        mask_probability: float = 0.15,
        training: bool = False,
    ):
        self.tokenizer = processor.tokenizer
        self.max_length = max_length
        self.training = training
        self.mask_probability = mask_probability

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Collates pairs; see [`SiaSamReaForPreTraining`] for what the tensors are."""
        texts, matches = self._mismatch(items)
        seed = None if self.training else items[0]["index"]
        masker = DataCollatorForLanguageModeling(self.tokenizer, mlm_probability=self.mask_probability, seed=seed)
        words = self.tokenizer(texts, truncation=True, max_length=self.max_length, return_special_tokens_mask=True)
        batch = dict(masker([{name: words[name][row] for name in words} for row in range(len(texts))]))
        matching_labels = torch.tensor(matches)
        # A text about another picture says nothing about this one's words (ClipBERT).
        batch["labels"] = batch["labels"].masked_fill(matching_labels[:, None] == 0, -100)
        # (videos, 1 clip, frames, 3, height, width)
        batch["pixel_values_videos"] = stack_padded([item["pixel_values_videos"] for item in items])
        batch["frame_mask"] = stack_padded([item["frame_mask"] for item in items])
        return batch | {"matching_labels": matching_labels}

    def _mismatch(self, items: list[dict[str, Any]]) -> tuple[list[str], list[int]]:
        """Exchanges some texts for those of the next other picture in the batch, and says which still match."""
        texts, matches = [], []
        for place, item in enumerate(items):
            exchange = bool(torch.rand(()) < 0.5) if self.training else item["index"] % 2 == 1
            others = (each for each in items[place + 1 :] + items[:place] if each["picture_id"] != item["picture_id"])
            other = next(others, None) if exchange else None
            matches.append(int(other is None))
            texts.append((other or item)["text"])
        return texts, matches
