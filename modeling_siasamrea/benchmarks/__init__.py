"""The benchmarks' own annotation files as rows."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.folder_files import FolderFiles
from ..processors.video_decoding import VIDEO_SUFFIXES


if TYPE_CHECKING:
    import datasets

# The benchmarks, each in the module of its name (TGIF-QA's four in one), and the splits that their authors publish.
SPLITS = {
    **dict.fromkeys(("msvd_qa", "msrvtt_qa", "activitynet_qa", "how2qa"), ("train", "validation", "test")),
    **dict.fromkeys(("tgif_action", "tgif_transition", "tgif_frameqa", "tgif_count"), ("train", "validation", "test")),
    **dict.fromkeys(("nextqa_mc", "intentqa"), ("train", "validation", "test")),
    **dict.fromkeys(("nextgqa", "egoschema", "longvideobench"), ("validation", "test")),
    **dict.fromkeys(("mmvu", "mlvu"), ("validation",)),
    **dict.fromkeys(("tempcompass", "tomato", "mvbench", "video_mme"), ("test",)),
}


def load_benchmark(
    name: str, annotations: str | Path, videos: str | Path | None = None, split: str = "train"
) -> "datasets.Dataset":
    r"""
    Reads a split of a benchmark from the files that its authors publish. Each question is a row; MMVU's open-ended
    questions, which need a judge, are left out and counted.

    Args:
        name (`str`):
            A key of `SPLITS`, such as `msvd_qa` or `nextgqa`. The module of each states its source, its splits with
            their sizes, which of them results are reported on, and the metric.
        annotations (`str` or `Path`):
            The folder of its annotation files, or the file of this split.
        videos (`str` or `Path`, *optional*):
            The folder of its videos, searched with its subfolders. A video that is not there keeps its official name,
            so that it is reported as missing when it is read. Without a folder the rows have official names.
        split (`str`, *optional*, defaults to `"train"`): `"train"`, `"validation"` or `"test"`.

    Returns:
        `datasets.Dataset`: columns `video`, `question`, `answer`, `task`, `question_id`, and where the benchmark has
        them `candidates` (with `as_published`, so that repeated ones stay), `start`, `end` and `evidence` (seconds),
        `count_range` and `question_type`.

    Raises:
        `ValueError`: If there is no such benchmark, split or file, or a file is not what its authors publish.

    Example:

    ```python
    >>> from modeling_siasamrea import load_benchmark

    >>> load_benchmark("msvd_qa", "annotations/msvd_qa", "videos/msvd", split="validation")[0]["question"]
    ```"""
    import datasets  # here, because it is slow to import

    if name not in SPLITS:
        raise ValueError(f"There is no benchmark {name!r}; choose from {', '.join(SPLITS)}.")
    if split not in SPLITS[name]:
        raise ValueError(f"The benchmark {name} has no split {split!r}; choose from {', '.join(SPLITS[name])}.")
    if not Path(annotations).exists():
        raise ValueError(f"The annotations {annotations} do not exist.")
    if videos is not None and not Path(videos).is_dir():
        raise ValueError(f"The video folder {videos} does not exist.")
    short = "val" if split == "validation" else split  # as most authors name their files
    module, arguments = name, (Path(annotations), FolderFiles(videos, VIDEO_SUFFIXES), short)
    if name.startswith("tgif_"):
        module, arguments = "tgif_qa", (*arguments, name.removeprefix("tgif_"))
    try:
        rows = list(import_module(f".{module}", __name__).load_rows(*arguments))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"The annotations {annotations} must have the layout of {name}; {error!r}.") from error
    if not rows:
        raise ValueError(f"The annotations {annotations} have no rows of the split {split}.")
    return datasets.Dataset.from_list(rows)
