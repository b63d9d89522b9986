"""Answers a corpus of requests by Ray Data, on one machine or on a cluster."""

import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pyarrow import fs, parquet, table

from ..training.start import explained
from ..video_language.loading import is_video_language_model
from .answer_requests import ANSWER_FIELDS, answer_requests, parse_line, span_of, together


if TYPE_CHECKING:
    from ray.data import Dataset


REQUESTS_PER_BLOCK = 64  # a block is answered, written and tried again as a whole
MOST_BLOCKS = 2000


def answer_dataset(
    dataset: "Dataset",
    model: str,
    top_k: int = 1,
    actors: int | None = None,
    answered: "Dataset | None" = None,
    videos: str | None = None,
) -> "Dataset":
    r"""
    Answers the requests of a Ray data set with a pool of actors, each of which loads the model once. Requests about
    one video go to the same actor. Where an actor dies, Ray starts it anew and repeats its block.

    Args:
        dataset (`ray.data.Dataset`):
            A request per row, with the fields of the pipeline as columns (None is left out), or a column `text` of
            JSON objects.
        model (`str`): Hub name or folder of a checkpoint, a video-language model, or an adapter.
        top_k (`int`, *optional*, defaults to 1): Most answers to a question.
        actors (`int`, *optional*): Processes that answer; by default one per GPU, or per CPU where there is no GPU.
        answered (`ray.data.Dataset`, *optional*): Rows that this function gave before; their requests are left out.
        videos (`str`, *optional*): The folder that relative paths of videos start from.

    Returns:
        `ray.data.Dataset`: A row per request: `video`, `question`, `answer` and `error` as text, and `text`, the JSON
        object of the request with `answer` and `answers`, or `error`. Blocks are answered when they are consumed.

    Raises:
        `ValueError`: If nothing can run the actors.
    """
    import ray  # the extra `ray`
    from ray import cloudpickle

    # Functions that only handle text travel whole: otherwise each of Ray's workers would import torch to find them.
    for module in (sys.modules[__name__], sys.modules[parse_line.__module__]):
        cloudpickle.register_pickle_by_value(module)
    resources = ray.cluster_resources()
    gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    actors = actors or gpus or cpus
    if not actors:
        raise ValueError("Ray has neither a GPU nor a CPU to answer with.")
    requests = dataset.map_batches(_request_lines, batch_format="numpy", fn_kwargs={"answered": False})
    blocks = min(max(2 * actors, dataset.count() // REQUESTS_PER_BLOCK), MOST_BLOCKS)
    if answered is not None:
        requests = requests.union(
            answered.map_batches(_request_lines, batch_format="numpy", fn_kwargs={"answered": True})
        )
    # Only texts are sorted. Materialized, because the sort and the actors would wait for each other's CPUs.
    by_video = requests.repartition(blocks).sort("video").materialize()  # rows of a video are in one block
    return by_video.map_batches(
        _Answerer,
        fn_constructor_kwargs={"model": model, "top_k": top_k, "videos": videos},
        batch_size=None,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=actors),
        **({"num_gpus": 1} if gpus else {"num_cpus": 1}),
    )


def answer_files(
    source: str,
    output: str | Path,
    model: str,
    top_k: int = 1,
    videos: str | None = None,
    actors: int | None = None,
) -> Counter:
    r"""
    Answers the requests of files into a folder; started again, it goes on with those that have no answer there.

    Args:
        source (`str`): A JSONL or parquet file or folder of requests, or the name of a data set for `datasets`, whose
            split `test` is taken, or its first one.
        output (`str` or `Path`): The folder, or its address, such as s3://. It gets parquet files, or files of JSON
            lines if the requests are such, each written as a whole.
        model (`str`): As in [`answer_dataset`].
        top_k, videos, actors: As in [`answer_dataset`].

    Returns:
        `Counter`: `answers` in the folder, and how many of them are `errors`.

    Raises:
        `ValueError`: If there is no such model or cluster, or the folder has files that are no answers.
    """
    import ray

    with explained(f"The checkpoint {model} cannot be loaded", model):  # before it is sent to the actors
        is_video_language_model(model)
    # Other processes may run in other folders.
    model, videos = (str(Path(path).resolve()) if path and Path(path).exists() else path for path in (model, videos))
    if not ray.is_initialized():
        # Not Ray's own search, which would wait for a cluster that once ran here and was killed.
        cluster = os.environ.get("RAY_ADDRESS") or "local"
        with explained(f"Ray at {cluster} cannot be reached"):
            ray.init(cluster, logging_level="warning", log_to_driver=False)
    requests, ending = _read(source)
    address = str(output) if "://" in str(output) else Path(output).resolve().as_uri()
    filesystem, folder = fs.FileSystem.from_uri(address)
    filesystem.create_dir(folder, recursive=True)
    infos = filesystem.get_file_info(fs.FileSelector(folder))
    for info in infos:
        if info.base_name.startswith(".answers-"):  # a kill left it half written
            filesystem.delete_file(info.path)
    done = sorted(info.path for info in infos if not info.base_name.startswith("."))
    if not all(Path(path).name.startswith("answers-") and path.endswith(ending) for path in done):
        raise ValueError(
            f"The folder {output} has other files than {ending} files of answers. Choose another --output."
        )
    read = ray.data.read_parquet if ending == "parquet" else ray.data.read_text
    answered = read(done, filesystem=filesystem) if done else None
    answer_dataset(requests, model, top_k, actors, answered, videos).map_batches(
        _write,
        batch_size=None,
        batch_format="numpy",
        fn_kwargs={"address": address, "ending": ending},
        num_cpus=0,  # the actors may have all
    ).materialize()
    counts = Counter()
    for info in filesystem.get_file_info(fs.FileSelector(folder)):
        with filesystem.open_input_file(info.path) as file:
            of_parquet = ending == "parquet"
            lines = parquet.read_table(file)["text"].to_pylist() if of_parquet else file.read().decode().splitlines()
        counts.update(answers=len(lines), errors=sum("error" in json.loads(line) for line in lines))
    return counts


def _read(source: str) -> tuple["Dataset", str]:
    """Reads requests from files, a folder of them, or a data set of `datasets`; returns the ending for answers too."""
    import ray

    path = Path(source)
    names = [file.name for file in path.iterdir()] if path.is_dir() else [source]
    if any(name.endswith(".jsonl") for name in names):
        return ray.data.read_text(source, drop_empty_lines=True), "jsonl"
    if any(name.endswith(".parquet") for name in names):
        return ray.data.read_parquet(source), "parquet"
    from datasets import load_dataset

    with explained(f"The data set {source} cannot be loaded", source):
        splits = load_dataset(source)
    dataset = splits.get("test") or next(iter(splits.values()))
    # Not `from_huggingface`, which asks the hub for a data set of the same name, also if this one is a local folder.
    return ray.data.from_arrow(dataset.with_format("arrow")[:]), "parquet"


def _request_lines(batch: dict[str, np.ndarray], answered: bool) -> dict[str, list]:
    """Turns requests into text, with the video that they are about."""
    if "text" in batch:
        requests = [parse_line(str(text)) for text in batch["text"] if str(text).strip()]
    else:
        columns = {name: values.tolist() for name, values in batch.items() if name not in ANSWER_FIELDS}
        rows = (dict(zip(columns, row)) for row in zip(*columns.values()))
        requests = [{name: _plain(value) for name, value in row.items() if not _is_missing(value)} for row in rows]
    return {
        "video": [repr(request.get("video")) for request in requests],
        "line": [json.dumps(request) for request in requests],
        "answered": [answered] * len(requests),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict) and value.get("path"):  # a video column of `datasets`
        return value["path"]
    return value.tolist() if isinstance(value, np.ndarray) else value


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


class _Answerer:
    """Answers blocks of requests in one process; the rows of a block are about whole videos."""

    def __init__(self, model: str, top_k: int, videos: str | None = None):
        from .checkpoint import load_answerer

        self.answerer, self.settings = load_answerer(model), (top_k, videos)

    def __call__(self, block: dict[str, np.ndarray]) -> Iterator[dict[str, list]]:
        """Answers the requests that have no answer yet; of equal requests, as many as lack one."""
        missing = Counter()
        for line, answered in zip(block["line"], block["answered"]):
            missing[str(line)] += -1 if answered else 1
        requests = [parse_line(line) for line in sorted(missing.elements())]
        for some in together(sorted(requests, key=span_of)):
            answers = answer_requests(self.answerer, some, *self.settings)
            columns = ("video", "question", "answer", "error")
            yield {name: [_text(answer.get(name)) for answer in answers] for name in columns} | {
                "text": [json.dumps(answer) for answer in answers]
            }


def _text(value: Any) -> str:
    """Returns a value as text that every file holds: "" for none, and JSON of what is no text."""
    if value is None:
        return ""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else json.dumps(value)


def _write(block: dict[str, np.ndarray], address: str, ending: str) -> dict[str, list[int]]:
    """Writes a block as a file that is there whole or not at all; the same block has the same name."""
    lines = [str(line) for line in block["text"]] if block else []
    if lines:
        filesystem, folder = fs.FileSystem.from_uri(address)
        name = f"answers-{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()[:20]}.{ending}"
        half = f"{folder}/.{name}.{os.getpid()}"
        with filesystem.open_output_stream(half) as file:
            if ending == "parquet":
                parquet.write_table(table({name: list(map(str, values)) for name, values in block.items()}), file)
            else:
                file.write("".join(line + "\n" for line in lines).encode())
        filesystem.move(half, f"{folder}/{name}")
    return {"written": [len(lines)]}
