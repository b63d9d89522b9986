"""Fixtures that several test files share."""

import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest


if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores; read when torch is loaded
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from gloo_pair import GlooPair
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

from modeling_siasamrea import (
    SiaSamReaConfig,
    SiaSamReaForVideoQuestionAnswering,
    SiaSamReaProcessor,
    SiaSamReaTrainer,
    SiaSamReaTrainingArguments,
    SiaSamReaVideoProcessor,
)
from modeling_siasamrea.data.dataset import VideoQuestionDataset
from modeling_siasamrea.data.questions import load_video_questions


SMALL_ANSWERS = ["cat", "dog", "red"]
SMALL_TASKS = ["open_ended", "multiple_choice", "count"]
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(scope="session")
def gloo_pair() -> Iterator[GlooPair]:
    """Two processes joined by gloo that run one job after another, see [`GlooPair`]."""
    pair = GlooPair()
    yield pair
    pair.stop()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of research videos, annotations and reference tensors beside the repository, on some machines."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "videos").is_dir():
        pytest.skip("the folder of shared research files is not on this machine")
    return folder


@pytest.fixture(scope="session")
def example() -> Iterator[Callable[[str], ModuleType]]:
    """Imports a script of `examples/` or `examples/research/` by its name."""
    with pytest.MonkeyPatch.context() as patch:
        for folder in (EXAMPLES, EXAMPLES / "research"):
            patch.syspath_prepend(folder)
        yield importlib.import_module


@pytest.fixture(scope="session", autouse=True)
def no_frame_indices_of_other_runs(tmp_path_factory) -> Iterator[None]:
    """Keeps frame indices of this run alone, so that each run tests the code that makes them."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modeling_siasamrea.processors.frame_index_store.cache_folder", lambda name: folder / name)
        yield


@pytest.fixture
def memory_as_it_was() -> Iterator[None]:
    """New memory is full of NaN, so that a parameter that nothing initialises shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., SiaSamReaConfig]:
    """A configuration of a model small enough to run in milliseconds; keyword arguments override its fields."""

    def make(**fields) -> SiaSamReaConfig:
        vision = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 8, 16, 32], "depths": [1, 1, 1, 1]}
        text = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        text |= {"intermediate_size": 48, "vocab_size": 200, "max_position_embeddings": 64}
        text |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        defaults = {"vision_config": vision, "text_config": text, "num_clips": 3}
        return SiaSamReaConfig(**(defaults | fields))

    return make


@pytest.fixture
def tiny_dinov2() -> dict:
    """An image encoder that is saved under other names than its own."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 8}
    return {"model_type": "dinov2", **sizes}


def numbered_frame(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A frame whose brightness says its index: `8 + 6 * index` in every pixel, for the first 40 frames."""
    return np.full((height, width, 3), (8 + 6 * index) % 248, dtype=np.uint8)


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    """Writes a video of numbered frames, H.264 in mp4 by default, 8 frames a second."""

    def write(path: Path, frames: int = 40, codec: str = "libx264", fps: int = 8, **shape: int) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=fps)
            stream.height, stream.width = numbered_frame(0, **shape).shape[:2]
            stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
            for index in range(frames):
                frame = av.VideoFrame.from_ndarray(numbered_frame(index, **shape), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


@pytest.fixture(scope="session")
def footage() -> Path:
    """A real video, 150 frames of 480 x 270 pixels in H.264, which Gradio ships."""
    package = importlib.util.find_spec("gradio")
    if package is None:
        pytest.skip("Gradio, whose sample video this test reads, is not installed")
    return Path(package.origin).parent / "media_assets" / "videos" / "b.mp4"


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer of a few words and all letters."""
    words = "what is the man doing ? a cat dog red blue how many times does it jump".split()
    pieces = [letter for code in range(97, 123) for letter in (chr(code), f"##{chr(code)}")]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *(p for p in pieces if p not in words)]
    return BertTokenizerFast(vocab={word: index for index, word in enumerate(vocabulary)}, model_max_length=32)


@pytest.fixture
def small_data(tmp_path: Path, write_video: Callable[..., Path]) -> Path:
    """A folder with `rows.jsonl`, questions of all three tasks about four videos, one of which is damaged."""
    folder = tmp_path / "data"
    rows = []
    for number in range(4):
        video = f"v{number}.mp4"
        if number == 2:
            (folder / video).write_bytes(b"no video")
        else:
            write_video(folder / video, frames=10 + 3 * number)
        for index in range(3):
            question = {"video": video, "question": "what is it ?" if index else "what colour ?"}
            answer = ["cat", "dog", "red"][(number + index) % 3]
            rows.append(
                {**question, "answer": answer, "question_id": f"open{number}-{index}", "question_type": f"t{index}"}
            )
        choice = {"video": video, "question": "what is the man doing ?", "candidates": ["cat", "dog", "jump"]}
        rows.append({**choice, "answer": number % 3, "question_id": f"choice{number}"})
        rows.append({"video": video, "question": "how many times ?", "answer": number + 1, "task": "count"})
        rows[-1]["question_id"] = f"count{number}"
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def write_run(tmp_path: Path, small_data: Path) -> Callable[..., str]:
    """Writes the configuration of a tiny run on the small data, which goes to `run`; arguments are added to it."""

    def write(**arguments) -> str:
        rows = str(small_data / "rows.jsonl")
        settings = {"train_file": rows, "test_file": rows, "video_folder": str(small_data)}
        settings |= {"output_dir": str(tmp_path / "run"), "do_train": True, "do_predict": True, "save_strategy": "no"}
        settings |= {"report_to": "none", "use_cpu": True, "disable_tqdm": True}
        path = tmp_path / "config.json"
        path.write_text(json.dumps(settings | arguments))
        return str(path)

    return write


@pytest.fixture
def processor(tokenizer: PreTrainedTokenizerFast) -> SiaSamReaProcessor:
    return SiaSamReaProcessor(
        SiaSamReaVideoProcessor(size={"longest_edge": 64}, num_clips=3, frames_per_clip=2), tokenizer
    )


@pytest.fixture
def make_trainer(
    tmp_path: Path, small_data: Path, processor: SiaSamReaProcessor, tiny_config: Callable
) -> Callable[..., SiaSamReaTrainer]:
    """
    A trainer on the small data; `rows` filters its questions, `trainer` holds arguments of the trainer, and further
    keyword arguments override the training arguments.
    """

    def make(rows=lambda question: True, config=None, output="out", trainer=None, **arguments) -> SiaSamReaTrainer:
        questions = [
            question for question in load_video_questions(small_data / "rows.jsonl", small_data) if rows(question)
        ]
        dataset = VideoQuestionDataset(questions, processor)
        torch.manual_seed(0)
        vocabulary = {
            "id2label": dict(enumerate(SMALL_ANSWERS)),
            "label2id": {name: i for i, name in enumerate(SMALL_ANSWERS)},
        }
        model = SiaSamReaForVideoQuestionAnswering(tiny_config(tasks=SMALL_TASKS, **vocabulary, **(config or {})))
        defaults = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "logging_steps": 1}
        defaults |= {"max_steps": 1, "per_device_train_batch_size": 4, "save_strategy": "no"}
        args = SiaSamReaTrainingArguments(output_dir=str(tmp_path / output), **(defaults | arguments))
        given = {"train_dataset": dataset, "eval_dataset": dataset, "processing_class": processor} | (trainer or {})
        return SiaSamReaTrainer(model, args, **given)

    return make
