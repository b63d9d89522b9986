"""The rows of `benchmark.py` about data: reading videos, loading and training together, and the start."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from pathlib import Path

import av
import numpy as np
import torch
from benchmark_parts.measuring import DEVICE, Row, compare, in_new_process, in_turn, memory, synchronize, timed
from torch import nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback

from modeling_siasamrea import SiaSamReaVideoProcessor
from modeling_siasamrea.data.dataset import VideoQuestionDataset, VideoRequest
from modeling_siasamrea.data.questions import load_video_questions
from modeling_siasamrea.preparation.sample_data import make_sample_data
from modeling_siasamrea.preparation.small_copies import prepare_video
from modeling_siasamrea.processors.siamese_sampling import sample_clips
from modeling_siasamrea.processors.video_decoding import decode_frames
from modeling_siasamrea.training.start import build_model
from modeling_siasamrea.training.trainer import SiaSamReaTrainer, SiaSamReaTrainingArguments


QUICKSTART = json.loads((Path(__file__).parents[1] / "configs" / "quickstart.json").read_text())
FPS = 25  # of the videos that are written here


# --- videos ----------------------------------------------------------------------------------------------------------


def write_video(path: Path, seconds: int, width: int, height: int) -> None:
    """A moving gradient with noise as H.264, a key frame every 10 s."""
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 40, (height, width, 3), dtype=np.uint8)
    ramp = np.linspace(0, 200, width, dtype=np.uint8)[None, :, None]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"g": str(10 * FPS), "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(FPS * seconds):
            frame = np.roll(np.broadcast_to(ramp, noise.shape), 4 * index, axis=1) + np.roll(noise, index, axis=0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


@contextmanager
def opened(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """A file and its video stream, decoded by as many threads as the decoder likes."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        yield container, stream


def read_each_clip(path: Path, clips: np.ndarray) -> list[np.ndarray]:
    """Frames of clips by PyAV, opened, sought and decoded for each clip."""
    read = []
    for clip in clips:
        with opened(path) as (container, stream):
            container.seek(int(clip.min() / FPS / stream.time_base), stream=stream)
            kept = {}
            for frame in container.decode(stream):
                index = round(frame.time * FPS)
                if index in clip:
                    kept[index] = frame.to_ndarray(format="rgb24")
                if index >= clip.max():
                    break
        read.append(np.stack([kept[index] for index in clip.tolist()]))
    return read


def decode_all(path: Path) -> None:
    """A bare decode of all frames, none of which becomes RGB."""
    with opened(path) as (container, stream):
        for _ in container.decode(stream):
            pass


def resize_each_clip(path: Path, clips: np.ndarray, side: int) -> list[torch.Tensor]:
    """Clips read by [`read_each_clip`], then resized and padded in float32, clip by clip."""
    resized = []
    for clip in read_each_clip(path, clips):
        frames = torch.from_numpy(clip).permute(0, 3, 1, 2).float()
        scale = side / max(frames.shape[-2:])
        size = [int(length * scale) for length in frames.shape[-2:]]
        frames = nn.functional.interpolate(frames, size, mode="bilinear", align_corners=False)
        resized.append(nn.functional.pad(frames, (0, side - size[1], 0, side - size[0])))
    return resized


def added_memory(path: str, clips: np.ndarray) -> float:
    """Peak memory in GB that decoding clips adds to a process."""
    before = memory("VmRSS")
    decode_frames(path, np.unique(clips))
    return memory("VmHWM") - before


SHAPES = ((10, 320, 240), (10, 1280, 720), (60, 320, 240), (60, 1280, 720))


def reading(repeats: int, shapes: tuple[tuple[int, int, int], ...] = SHAPES, side: int = 448) -> list[Row]:
    """A video's clips: decoded; and as a training item, resized and padded too."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seconds, width, height in shapes:
            path = Path(folder) / f"{seconds}_{height}.mp4"
            write_video(path, seconds, width, height)
            for clips, frames, mode in ((1, 2, "random_windows"), (9, 8, "siamese")):
                sampling = {"frames_per_clip": frames, "num_clips": clips, "training": True}
                indices = sample_clips(
                    FPS * seconds,
                    mode=mode,
                    window_frames=FPS * frames,
                    generator=np.random.default_rng(0),
                    **sampling,
                )
                unique, places = np.unique(indices, return_inverse=True)
                ours, theirs = decode_frames(str(path), unique)[0].permute(0, 2, 3, 1), read_each_clip(path, indices)
                torch.testing.assert_close(ours[places.reshape(indices.shape)], torch.from_numpy(np.stack(theirs)))
                what = f"{clips} × {frames} frames of {seconds} s, {height}p"
                note = ""
                if sys.platform == "linux":
                    added = in_new_process(added_memory, str(path), indices)
                    note = f"adds {added:.2f} GB of memory for {ours.numel() / 2**30:.2f} GB of frames"
                others = {
                    "open, seek and decode for each clip": timed(partial(read_each_clip, path, indices)),
                    "bare decode of all frames": timed(partial(decode_all, path)),
                }
                rows += compare(repeats, what, timed(partial(decode_frames, str(path), unique)), others, note)

                processor = SiaSamReaVideoProcessor(
                    size={"longest_edge": side}, sampling=mode, antialias=False, do_rescale=False, do_normalize=False
                )
                item = partial(processor, [str(path)], seed=0, **sampling)
                others = {"the same clip by clip, in float32": timed(partial(resize_each_clip, path, indices, side))}
                rows += compare(repeats, f"training item, {what}, at {side}", timed(item), others)
    return rows


def prepared(repeats: int, shape: tuple[int, int, int] = (10, 1280, 720)) -> list[Row]:
    """Sampling a video's clips from its fast copy (`siasamrea prepare`), beside the original."""
    processor = SiaSamReaVideoProcessor(size={"longest_edge": 224}, do_rescale=False, do_normalize=False)
    with tempfile.TemporaryDirectory() as folder:
        original, copy = Path(folder) / "original.mp4", Path(folder) / "copy.mp4"
        write_video(original, *shape)
        prepare_video(original, copy, short_side=256, group=8, crf=20)
        from_copy, from_original = (
            partial(processor, [str(path)], training=True, seed=0) for path in (copy, original)
        )
        fast, slow = (work()["pixel_values_videos"][0].float() for work in (from_copy, from_original))
        note = f"pixels differ by {(fast - slow).abs().mean():.1f} of 255 on average"
        what = f"9 clips of {shape[0]} s, {shape[2]}p, from the fast copy"
        return compare(repeats, what, timed(from_copy), {"from the original": timed(from_original)}, note)


def transfer(repeats: int, shape: tuple[int, ...] = (4, 9, 10, 3, 224, 224)) -> list[Row]:
    """Frames to the GPU as pinned uint8, normalised there, beside floats from ordinary memory."""
    if DEVICE.type == "cpu":
        return []
    processor = SiaSamReaVideoProcessor()
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8).pin_memory()
    floats = processor.normalize_frames(pixels)
    ours = timed(lambda: processor.normalize_frames(pixels.to(DEVICE, non_blocking=True)))
    others = {"normalised floats": timed(lambda: floats.to(DEVICE))}
    return compare(
        repeats, "frames to the GPU, pinned uint8", ours, others, f"{pixels.numel() / 2**20:.0f} MB of uint8"
    )


# --- loading and training together -----------------------------------------------------------------------------------


class StepEnds(TrainerCallback):
    """Notes when each step ends."""

    def __init__(self):
        self.times: list[float] = []

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """After the optimizer's step."""
        synchronize()
        self.times.append(time.perf_counter())


QUICKSTART_RUN = {
    "data": {"train_videos": 200},
    "model": {"config": QUICKSTART["model_config"], "video_processor": QUICKSTART["video_processor"]},
    "batch": {name: QUICKSTART[name] for name in ("per_device_train_batch_size", "questions_per_video")},
    "steps": 20,
}
RESNET50_RUN = {
    "data": {"train_videos": 16, "size": 320, "seconds": 10.0, "fps": FPS},
    "model": {"config": {"num_clips": 9}, "video_processor": {"size": {"longest_edge": 224}}},
    "batch": {"per_device_train_batch_size": 1},
    "steps": 6,
}
RUNS = {"the quickstart": QUICKSTART_RUN, "ResNet-50 and BERT-base at 224, N = 9, batch 1": RESNET50_RUN}


class Run:
    """A Trainer run of a few steps, whole or by its parts: `load` and `train` return the seconds a step takes."""

    def __init__(self, folder: str, data: dict, model: dict, batch: dict, steps: int):
        make_sample_data(folder, **data, validation_videos=1, test_videos=1)
        questions = load_video_questions(Path(folder) / "train.jsonl", folder)
        self.model, self.processor = build_model(questions, **model)
        self.folder, self.batch, self.steps = folder, batch, steps
        self.dataset = VideoQuestionDataset(questions, self.processor)
        self.loader = self.trainer(workers=0).get_train_dataloader()
        self.batches = list(islice(self.loader, steps))

    def trainer(self, workers: int) -> SiaSamReaTrainer:
        """A new Trainer of the run's model."""
        arguments = SiaSamReaTrainingArguments(
            output_dir=self.folder,
            max_steps=self.steps,
            learning_rate=1e-6,
            dataloader_num_workers=workers,
            use_cpu=DEVICE.type == "cpu",
            bf16=DEVICE.type == "cuda",
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **self.batch,
        )
        return SiaSamReaTrainer(self.model, arguments, train_dataset=self.dataset, processing_class=self.processor)

    def load(self) -> float:
        """Batches are read, by this process."""
        began = time.perf_counter()
        for _ in islice(self.loader, self.steps):
            pass
        return (time.perf_counter() - began) / self.steps

    def train(self, workers: int, in_memory: bool = False) -> float:
        """The model is trained, on batches in memory or as they are read; from the end of the first step on."""
        ends, trainer = StepEnds(), self.trainer(workers)
        if in_memory:
            trainer.get_train_dataloader = lambda: self.batches
        trainer.remove_callback(PrinterCallback)  # what is printed is the table
        trainer.add_callback(ends)
        trainer.train()
        return (ends.times[-1] - ends.times[0]) / (self.steps - 1)


def together(repeats: int, runs: dict[str, dict] = RUNS) -> list[Row]:
    """A step of Trainer runs that load and train on the same cores, beside loading alone and training alone."""
    rows = []
    for name, parameters in runs.items():
        with tempfile.TemporaryDirectory() as folder:
            run = Run(folder, **parameters)
            works = (run.load, partial(run.train, 0, in_memory=True), partial(run.train, 1), partial(run.train, 0))
            loading, training, one_worker, no_worker = in_turn(max(1, repeats // 2), *works)
        total = [sum(parts) for parts in zip(loading, training)]
        share = np.median(loading) / np.median(total)
        for workers, seconds in (("one worker", one_worker), ("no worker", no_worker)):
            what = f"a step of {name}, loaded by {workers}"
            rate = f"{1 / np.median(seconds):.2f} steps a second; by the parts {1 / np.median(total):.2f}"
            rows.append(Row(what, "loading alone + training alone", seconds, total, f"{rate}, {share:.0%} loading"))
            rows.append(Row(what, "training alone", seconds, training))
    return rows


def uint8_frames(repeats: int, run: dict = QUICKSTART_RUN) -> list[Row]:
    """A worker's batches of uint8 frames, normalised where they arrive, beside batches of floats."""
    with tempfile.TemporaryDirectory() as folder:
        make_sample_data(folder, **run["data"], validation_videos=1, test_videos=1)
        questions = load_video_questions(Path(folder) / "train.jsonl", folder)

        def reader(as_uint8: bool) -> Callable[[], None]:
            _, processor = build_model(questions, **run["model"])
            processor.video_processor.round_frames = as_uint8
            dataset = VideoQuestionDataset(questions, processor)
            requests = [VideoRequest(tuple(rows), epoch=0) for rows in dataset.groups.values()]
            batches = [requests[start : start + 10] for start in range(0, len(requests), 10)]
            loader = DataLoader(dataset, batch_sampler=batches, num_workers=1, collate_fn=list)

            def read() -> None:
                for item in chain.from_iterable(loader):
                    if as_uint8:
                        processor.video_processor.normalize_frames(item["pixel_values_videos"])

            return read

        others = {"as floats": timed(reader(False))}
        return compare(repeats, f"{len(questions)} items by a worker, as uint8", timed(reader(True)), others)


# --- the start -------------------------------------------------------------------------------------------------------


IMPORTS = "import torch, transformers"
CLASSES = f"{IMPORTS}; from transformers import AutoModel, AutoProcessor, AutoBackbone, BaseVideoProcessor, pipeline"
IMPORT_PACKAGE = "import modeling_siasamrea"
ANSWER = """
import sys
import modeling_siasamrea
from transformers import pipeline
model, video = sys.argv[1:]
print(pipeline("video-question-answering", model=model)(video=video, question="what is it ?", task="open_ended"))
"""


def run_python(code: str, *arguments: object) -> str:
    """What a new Python prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def model_and_video(folder: Path) -> tuple[Path, Path]:
    """A checkpoint of the quickstart's size with random weights, and a video of 10 s."""
    make_sample_data(folder, train_videos=4, validation_videos=1, test_videos=1)
    questions = load_video_questions(folder / "train.jsonl", folder)
    for part in build_model(questions, **QUICKSTART_RUN["model"]):
        part.save_pretrained(folder / "model")
    write_video(folder / "video.mp4", 10, 320, 240)
    return folder / "model", folder / "video.mp4"


def start(repeats: int) -> list[Row]:
    """From `python` to the package, and to an answer about a video of 10 s: whole processes."""
    with tempfile.TemporaryDirectory() as folder:
        given = model_and_video(Path(folder))
        codes = (ANSWER, IMPORT_PACKAGE, CLASSES, IMPORTS)
        answer, package, classes, imports = in_turn(repeats, *(timed(partial(run_python, c, *given)) for c in codes))
    rows = []
    for what, seconds in (("first answer", answer), ("import modeling_siasamrea", package)):
        for beside, others in ((IMPORTS, imports), ("the same and the classes of Transformers", classes)):
            rows.append(Row(what, beside, seconds, others))
            rows[-1].note = f"{rows[-1].times:.2f} times as long"
    return rows
