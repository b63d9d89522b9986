"""The benchmarks' own annotation files as rows."""

from functools import partial
from pathlib import Path

import datasets

from . import (
    activitynet_qa,
    egoschema,
    how2qa,
    intentqa,
    longvideobench,
    mlvu,
    mmvu,
    msrvtt_qa,
    msvd_qa,
    mvbench,
    nextgqa,
    nextqa_mc,
    tempcompass,
    tgif_qa,
    tomato,
    video_mme,
)
from .official_files import VideoFolder


LOADERS = {
    "msvd_qa": msvd_qa.load_rows,
    "msrvtt_qa": msrvtt_qa.load_rows,
    "activitynet_qa": activitynet_qa.load_rows,
    "how2qa": how2qa.load_rows,
    "tgif_action": partial(tgif_qa.load_rows, "action"),
    "tgif_transition": partial(tgif_qa.load_rows, "transition"),
    "tgif_frameqa": partial(tgif_qa.load_rows, "frameqa"),
    "tgif_count": partial(tgif_qa.load_rows, "count"),
    "nextqa_mc": nextqa_mc.load_rows,
    "nextgqa": nextgqa.load_rows,
    "intentqa": intentqa.load_rows,
    "tempcompass": tempcompass.load_rows,
    "tomato": tomato.load_rows,
    "mmvu": mmvu.load_rows,
    "egoschema": egoschema.load_rows,
    "mvbench": mvbench.load_rows,
    "longvideobench": longvideobench.load_rows,
    "mlvu": mlvu.load_rows,
    "video_mme": video_mme.load_rows,
}
# The splits that authors publish, where they are not all three.
SPLITS = dict.fromkeys(LOADERS, ("train", "validation", "test"))
SPLITS |= dict.fromkeys(("mmvu", "mlvu"), ("validation",))
SPLITS |= dict.fromkeys(("tempcompass", "tomato", "mvbench", "video_mme"), ("test",))
SPLITS |= dict.fromkeys(("nextgqa", "egoschema", "longvideobench"), ("validation", "test"))


def load_benchmark(
    name: str, annotations: str | Path, videos: str | Path | None = None, split: str = "train"
) -> datasets.Dataset:
    r"""
    Reads a split of a benchmark from the files that its authors publish. Every question is a row; MMVU's open-ended
    questions, which need a judge, are left out and counted.

    Args:
        name (`str`):
            A key of `LOADERS`, such as `msvd_qa` or `nextgqa`. The module of each states its source, its splits with
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
    >>> from modeling_siasamrea.benchmarks import load_benchmark

    >>> load_benchmark("msvd_qa", "annotations/msvd_qa", "videos/msvd", split="validation")[0]["question"]
    ```"""
    if name not in LOADERS:
        raise ValueError(f"There is no benchmark {name!r}; choose from {', '.join(LOADERS)}.")
    if split not in SPLITS[name]:
        raise ValueError(f"The benchmark {name} has no split {split!r}; choose from {', '.join(SPLITS[name])}.")
    if not Path(annotations).exists():
        raise ValueError(f"The annotations {annotations} do not exist.")
    try:
        rows = LOADERS[name](Path(annotations), VideoFolder(None if videos is None else Path(videos)), split)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"The annotations {annotations} must have the layout of {name}; {error!r}.") from error
    return datasets.Dataset.from_list(rows)


__all__ = ["LOADERS", "SPLITS", "load_benchmark"]
