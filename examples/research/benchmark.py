"""
Times the package against itself and against plain Transformers on this machine; prints Markdown tables.

    python examples/research/benchmark.py                         # everything
    python examples/research/benchmark.py inference training      # chosen parts
    python examples/research/benchmark.py --repeats 9 --threads 4

The works of a row run in turn. The row has the median and range of each, and the ratio within the turns: above 1 the
first is faster. If other processes use the machine during a part, the script ends with status 1 instead of reporting
it. With a GPU the model runs on it in bf16.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from functools import partial
from importlib import import_module
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import av
import numpy as np
import torch
from torch import nn
from transformers import AutoBackbone, AutoModel, TrainerCallback

from modeling_siasamrea import (
    SiaSamReaConfig,
    SiaSamReaForVideoQuestionAnswering,
    SiaSamReaTrainer,
    SiaSamReaTrainingArguments,
    VideoQuestionDataset,
    answer_vocabulary,
    decode_frames,
    load_video_questions,
    make_sample_data,
    sample_clips,
    siamese_loss,
    speed_up_on_cpu,
)
from modeling_siasamrea.evaluation.baselines import question_only_baseline
from modeling_siasamrea.preparation.small_copies import prepare_video
from modeling_siasamrea.processors import frame_index
from modeling_siasamrea.processors.disk_cache import cache_folder
from modeling_siasamrea.training.start import build_model


DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MOST_BY_OTHERS = 0.05  # share of the cores' time; beyond it a median of a few runs moves by more than its range says
FPS = 25  # of the videos that are written here

Work = Callable[[], object]


# --- measuring -------------------------------------------------------------------------------------------------------


def seconds_of(work: Work) -> float:
    """The seconds that a work takes."""
    start = time.perf_counter()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def spread(values: list[float], digits: int = 3) -> str:
    """The median and the range of values."""
    return "{0:.{3}f} ({1:.{3}f}–{2:.{3}f})".format(statistics.median(values), min(values), max(values), digits)


def compare(repeats: int, what: str, ours: Work, others: dict[str, Work]) -> list[str]:
    """
    Runs a work and those beside it in turn, after a warm-up.

    Returns:
        `list[str]`: a row of the Markdown table for each of `others`.
    """
    works = [ours, *others.values()]
    for work in works:
        work()
    own, *of_others = zip(*([seconds_of(work) for work in works] for _ in range(repeats)))
    return [
        f"| {what} | {spread(own)} s | {beside} | {spread(seconds)} s "
        f"| {spread([theirs / our for our, theirs in zip(own, seconds)], 2)} |"
        for beside, seconds in zip(others, of_others)
    ]


def seconds_by_others(start: float) -> float:
    """Seconds that the cores worked for other processes; outside Linux since `start`, by the load average."""
    own = sum(os.times()[:4])
    if sys.platform != "linux":
        return os.getloadavg()[0] * (time.perf_counter() - start) - own
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK") - own  # without idle and waiting


@contextmanager
def quiet_machine(when: str) -> Iterator[None]:
    """Stops the script with status 1 if others used more than `MOST_BY_OTHERS` of the cores' time meanwhile."""
    start = time.perf_counter()
    before = seconds_by_others(start)
    yield
    share = (seconds_by_others(start) - before) / (time.perf_counter() - start) / os.cpu_count()
    if share > MOST_BY_OTHERS:
        raise SystemExit(
            f"Other processes used {share:.0%} of the cores {when}; at most {MOST_BY_OTHERS:.0%} is fair."
        )


# --- the model -------------------------------------------------------------------------------------------------------


def resnet50_bert_base(fast: bool = True, **fields) -> SiaSamReaForVideoQuestionAnswering:
    """ResNet-50 and BERT-base with the same random weights each time; ClipBERT's first two stages frozen."""
    torch.manual_seed(0)
    frozen = {"frozen_image_encoder_modules": ["embedder", "encoder.stages.0"]}
    config = SiaSamReaConfig(tasks=["open_ended", "multiple_choice"], num_labels=1000, **frozen, **fields)
    model = SiaSamReaForVideoQuestionAnswering(config).to(DEVICE)
    if fast and DEVICE.type == "cpu":
        speed_up_on_cpu(model)
    return model


def make_batch(size: int, clips: int = 1, questions_per_video: int = 1, candidates: int = 0, videos: int = 4) -> dict:
    """`videos` videos of 2 frames per clip, questions of 12 tokens, answers in turn."""
    generator = torch.Generator().manual_seed(0)
    questions = videos * questions_per_video
    shape = (questions, candidates, 12) if candidates else (questions, 12)
    batch = {
        "pixel_values_videos": torch.randn(videos, clips, 2, 3, size, size, generator=generator),
        "input_ids": torch.randint(5, 200, shape, generator=generator),
        "attention_mask": torch.ones(shape, dtype=torch.long),
        "video_index": torch.arange(videos).repeat_interleave(questions_per_video),
        "labels": torch.arange(questions) % (candidates or 1000),
    }
    task = "multiple_choice" if candidates else "open_ended"
    return {name: value.to(DEVICE) for name, value in batch.items()} | {"task": task}


def precision() -> AbstractContextManager:
    """bf16 autocast on a GPU, float32 on a CPU."""
    return torch.autocast("cuda", torch.bfloat16) if DEVICE.type == "cuda" else nullcontext()


@torch.inference_mode()
def forward(model: nn.Module, batch: dict) -> torch.Tensor:
    """Logits of a batch."""
    with precision():
        return model(**batch).logits


def transformers_alone(model: SiaSamReaForVideoQuestionAnswering, batch: dict) -> Work:
    """Transformers' ResNet on as many frames and its BERT on as many tokens."""
    frames = batch["pixel_values_videos"].flatten(0, 2).contiguous(memory_format=torch.channels_last)
    names = ("pixel_values_videos", "input_ids", "video_index")
    with torch.inference_mode():
        tokens = torch.randn_like(model.model(**{name: batch[name] for name in names}).last_hidden_state)
    vision = AutoBackbone.from_config(model.config.vision_config).to(DEVICE).eval()
    text = AutoModel.from_config(model.config.text_config).to(DEVICE).eval()

    @torch.inference_mode()
    def run() -> None:
        with precision():
            vision(frames)
            text(inputs_embeds=tokens)

    return run


def inference(repeats: int, sizes: tuple[int, ...] = (224, 448)) -> list[str]:
    """
    One question per video, four, and five candidates, beside the two encoders of Transformers alone; four also beside
    encoding the video for each, and one in float32 beside bf16.
    """
    model, rows = resnet50_bert_base().eval(), []
    half = deepcopy(model).bfloat16()
    for size in sizes:
        batches = {
            "1 question per video": make_batch(size),
            "4 questions per video": make_batch(size, questions_per_video=4),
            "5 candidates": make_batch(size, candidates=5),
        }
        for what, batch in batches.items():
            others = {"Transformers' ResNet and BERT": transformers_alone(model, batch)}
            if what.startswith("4"):
                others["a video for each question"] = partial(forward, model, make_batch(size, videos=16))
            rows += compare(repeats, f"{what}, {size} px", partial(forward, model, batch), others)
        batch = make_batch(size)
        short = batch | {"pixel_values_videos": batch["pixel_values_videos"].bfloat16()}
        others = {"float32": partial(forward, model, batch)}
        rows += compare(repeats, f"1 question per video in bf16, {size} px", partial(forward, half, short), others)
    return rows


def fast_paths(repeats: int, sizes: tuple[int, ...] = (224, 448)) -> list[str]:
    """Answers about one video with and without `speed_up_on_cpu`, which must be equal."""
    fast, plain = resnet50_bert_base().eval(), resnet50_bert_base(fast=False).eval()
    rows = []
    for size in sizes:
        batch = make_batch(size, videos=1)
        torch.testing.assert_close(forward(fast, batch), forward(plain, batch), atol=1e-4, rtol=1e-4)
        others = {"without": partial(forward, plain, batch)}
        rows += compare(repeats, f"speed_up_on_cpu, {size} px", partial(forward, fast, batch), others)
    return rows


ANSWERS = """
import sys
sys.path.insert(0, sys.argv[1])
from benchmark import forward, make_batch, resnet50_bert_base, seconds_of
model, batch = resnet50_bert_base().eval(), make_batch(int(sys.argv[2]), videos=1)
print(sorted(seconds_of(lambda: forward(model, batch)) for _ in range(9))[4])
"""


def memory(repeats: int, sizes: tuple[int, ...] = (224, 448)) -> list[str]:
    """One answer with freed memory kept by the process (glibc), beside given back; each turn is two processes."""
    kept = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_MAX_": "0"}
    given_back = {"MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_MMAP_MAX_": "65536"}
    rows = []
    for size in sizes:
        turns = [[run_model(size, variables) for variables in (kept, given_back)] for _ in range(repeats)]
        ours, theirs = zip(*turns)
        ratio = spread([back / our for our, back in turns], 2)
        rows.append(f"| freed memory kept, {size} px | {spread(ours)} s | given back | {spread(theirs)} s | {ratio} |")
    return rows


def run_model(size: int, variables: dict[str, str]) -> float:
    """The median seconds of an answer in a new Python with these environment variables."""
    with patch.dict(os.environ, variables):
        return float(run_python(ANSWERS, Path(__file__).parent, size))


def training_step(model: SiaSamReaForVideoQuestionAnswering, batch: dict) -> Work:
    """One optimizer step: forward, backward, clipping at 5.0, AdamW."""
    model.train()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-6, fused=True)

    def step() -> None:
        with precision():
            outputs = model(**batch)
            loss = outputs.loss
            if outputs.soft_labels is not None:
                losses = siamese_loss(outputs.logits, outputs.soft_labels, batch["task"])
                loss = loss + model.config.alpha * losses.mean()
        loss.backward()
        nn.utils.clip_grad_norm_(trainable, 5.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def siamese(repeats: int, size: int = 224, numbers: tuple[int, ...] = (2, 5, 9)) -> list[str]:
    """A training step with siamese reasoning over N clips, beside the step of the anchor clip alone."""
    alone = training_step(resnet50_bert_base(num_clips=2, alpha=0.0), make_batch(size))
    rows = []
    for clips in numbers:
        step = training_step(resnet50_bert_base(num_clips=clips), make_batch(size, clips=clips))
        rows += compare(repeats, f"training step, N = {clips}, {size} px", step, {"anchor clip alone": alone})
    return rows


# --- data ------------------------------------------------------------------------------------------------------------


def write_video(path: Path, seconds: int, width: int, height: int, codec: str = "libx264", **options: str) -> None:
    """A moving gradient with noise, a key frame every 10 s."""
    noise = np.random.default_rng(0).integers(0, 40, (height, width, 3), dtype=np.uint8)
    ramp = np.linspace(0, 200, width, dtype=np.uint8)[None, :, None]
    with av.open(str(path), "w") as container:
        options = {"g": str(10 * FPS), "preset": "veryfast", **options}
        stream = container.add_stream(codec, rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(FPS * seconds):
            frame = np.roll(np.broadcast_to(ramp, noise.shape), 4 * index, axis=1) + np.roll(noise, index, axis=0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def repeat_video(source: Path, target: Path, times: int) -> None:
    """Copies a video's packets one after the other, so that a long video costs the encoding of a short one."""
    with av.open(str(source)) as original, av.open(str(target), "w") as copy:
        stream = original.streams.video[0]
        written = copy.add_stream_from_template(stream)
        for number in range(times):
            original.seek(0)
            for packet in original.demux(stream):
                if packet.size:
                    packet.pts, packet.dts = (ticks + number * stream.duration for ticks in (packet.pts, packet.dts))
                    packet.stream = written
                    copy.mux(packet)


def read_each_clip(path: Path, clips: np.ndarray) -> list[np.ndarray]:
    """Frames of clips by PyAV: the file is opened, sought and decoded once per clip."""
    read = []
    for clip in clips:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
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


def read_new(path: Path, indices: list[int], known: bool) -> None:
    """Frames as a new process reads them, whose index is on disk if the file is known."""
    frame_index._remembered.clear()  # there is no other way to forget them
    if not known:
        shutil.rmtree(cache_folder("frame_indices"), ignore_errors=True)
    decode_frames(str(path), indices)


def read_torchcodec(path: Path, indices: list[int], seek_mode: str) -> None:
    """The same frames by torchcodec."""
    decoder = import_module("torchcodec.decoders").VideoDecoder(path, seek_mode=seek_mode, num_ffmpeg_threads=0)
    decoder.get_frames_at(indices)


def bytes_read(work: Work) -> int:
    """The bytes that a work reads (Linux)."""
    counter = Path("/proc/self/io")
    before, _, after = (counter.read_text(), work(), counter.read_text()) if counter.exists() else ("", 0, "")
    return int(after.split()[1]) - int(before.split()[1]) if after else 0


SHAPES = ((10, 320, 240), (10, 1280, 720), (60, 320, 240))


def reading(
    repeats: int,
    shapes: tuple[tuple[int, int, int], ...] = SHAPES,
    long: tuple[int, int, int, int] = (20, 30, 1280, 720),
) -> list[str]:
    """
    The frames of a video's clips, beside one pass over the file per clip; frames of a long video, and those for which
    pictures are left out, beside torchcodec (`pip install torchcodec`).
    """
    rows, (seconds, times, *size) = [], long
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, XDG_CACHE_HOME=folder):
        for length, width, height in shapes:
            path = Path(folder) / f"{length}_{height}.mp4"
            write_video(path, length, width, height)
            for clips, frames, mode in ((1, 2, "random_windows"), (9, 8, "siamese")):
                how = {"frames_per_clip": frames, "num_clips": clips, "training": True, "window_frames": FPS * frames}
                generator = np.random.default_rng(0)
                indices = sample_clips(FPS * length, mode=mode, generator=generator, **how)
                work = partial(decode_frames, str(path), np.unique(indices))
                others = {"one pass per clip": partial(read_each_clip, path, indices)}
                rows += compare(repeats, f"{clips} x {frames} frames of {length} s, {height}p", work, others)
            if height > 256:
                copy = path.with_name("copy.mp4")
                prepare_video(path, copy, short_side=256, group=8, crf=20)  # as the command does
                small = partial(decode_frames, str(copy), np.unique(indices))
                rows += compare(repeats, f"the same from a copy of 256p, {length} s", small, {f"{height}p": work})
        for codec, name in (("libx264", "H.264"), ("libx265", "HEVC")):
            short, path = Path(folder) / f"short_{codec}.mp4", Path(folder) / f"long_{codec}.mp4"
            write_video(short, seconds, *size, codec, bf="3", **{"x265-params": "log-level=none"})
            repeat_video(short, path, times)
            os.utime(path, (1e9, 1e9))  # the index of a file that was written just now is not kept
            count = FPS * seconds * times
            two, many = [count // 3, 2 * count // 3], np.linspace(0, FPS * seconds - 1, 16).astype(int).tolist()
            long_one = f"2 frames of {seconds * times} s, {path.stat().st_size >> 20} MB, {size[1]}p {name}"
            works = [
                (f"{long_one}, index new", path, two, partial(read_new, path, two, known=False)),
                (f"{long_one}, index known", path, two, partial(read_new, path, two, known=True)),
                (
                    f"16 frames of {seconds} s, {size[1]}p {name}",
                    short,
                    many,
                    partial(decode_frames, str(short), many),
                ),
            ]
            for what, file, indices, work in works:
                work()
                modes = ("exact", "approximate")
                others = {f"torchcodec, {mode}": partial(read_torchcodec, file, indices, mode) for mode in modes}
                rows += compare(repeats, f"{what}, {bytes_read(work) / 1e6:.1f} MB read", work, others)
    return rows


def write_rows(path: Path, count: int) -> Path:
    """Open-ended rows, twenty per video, whose questions and answers repeat as people's do."""
    things = np.random.default_rng(0).zipf(1.3, (count, 2)) % 4000
    with open(path, "w", encoding="utf-8") as file:
        for number, (asked, answer) in enumerate(things.tolist()):
            question = f"what is the person number {asked} doing ?"
            row = {"video": f"video{number // 20}.mp4", "question": question, "answer": f"thing {answer}"}
            file.write(json.dumps(row) + "\n")
    return path


READ = """
import sys
from pathlib import Path
from modeling_siasamrea import load_video_questions

def pages():
    return int(Path("/proc/self/statm").read_text().split()[1])

before = pages()
questions = load_video_questions(sys.argv[1])
print((pages() - before) * 4096 / 1e6)
"""


def growth(repeats: int, rows: int = 1_000_000, train: int = 158_581, test: int = 72_821) -> list[str]:
    """
    A million rows and the baselines of MSRVTT-QA's size, beside a tenth of them: the ratio is 0.1 where work is
    linear. Memory is that of a process that holds the rows (Linux).
    """
    with tempfile.TemporaryDirectory() as folder:
        file, tenth = (write_rows(Path(folder) / f"{count}.jsonl", count) for count in (rows, rows // 10))
        loads = [partial(load_video_questions, path) for path in (file, tenth)]
        table = compare(repeats, f"reading {rows} rows", loads[0], {"a tenth": loads[1]})
        held = float(run_python(READ, file)) if sys.platform == "linux" else float("nan")
        table.append(f"| holding {rows} rows | {held:.0f} MB | | | |")
        questions, few = (load() for load in loads)
    vocabularies = [partial(answer_vocabulary, asked) for asked in (questions, few)]
    table += compare(repeats, f"vocabulary of {rows} rows", vocabularies[0], {"a tenth": vocabularies[1]})
    sizes = [(train, test), (train // 10, test // 10)]
    blind = [partial(question_only_baseline, questions[:first], questions[-second:]) for first, second in sizes]
    return table + compare(repeats, f"baseline without video, {train} x {test} rows", blind[0], {"a tenth": blind[1]})


class StepEnds(TrainerCallback):
    """Notes when each step ends."""

    def __init__(self):
        self.times: list[float] = []

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """After the optimizer's step."""
        self.times.append(time.perf_counter())


def together(repeats: int, steps: int = 20, train_videos: int = 200) -> list[str]:
    """Loading batches by a worker while a small model trains on the same cores, beside one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        make_sample_data(folder, train_videos=train_videos, validation_videos=1, test_videos=1)
        questions = load_video_questions(Path(folder) / "train.jsonl", folder)
        vision = {"model_type": "resnet", "embedding_size": 16, "hidden_sizes": [32], "depths": [2]}
        text = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
        settings = {"size": {"longest_edge": 64}, "frames_per_clip": 8}
        fields = {"vision_config": vision | {"layer_type": "basic"}, "text_config": text, "num_clips": 3}
        model, processor = build_model(questions, config=fields, video_processor=settings)
        dataset = VideoQuestionDataset(questions, processor)

        def trainer(workers: int) -> SiaSamReaTrainer:
            quiet = {"save_strategy": "no", "logging_strategy": "no", "report_to": "none", "disable_tqdm": True}
            arguments = SiaSamReaTrainingArguments(
                output_dir=folder,
                max_steps=steps,
                dataloader_num_workers=workers,
                use_cpu=DEVICE.type == "cpu",
                **quiet,
            )
            return SiaSamReaTrainer(model, arguments, train_dataset=dataset, processing_class=processor)

        def train(workers: int) -> float:
            ends, started = StepEnds(), trainer(workers)
            started.add_callback(ends)
            started.train()
            return (ends.times[-1] - ends.times[0]) / (steps - 1)

        def load() -> float:
            loader = trainer(0).get_train_dataloader()
            return seconds_of(lambda: list(islice(loader, steps))) / steps

        one_worker, no_worker, loading = zip(*((train(1), train(0), load()) for _ in range(repeats)))
    ratios = [alone / beside for alone, beside in zip(no_worker, one_worker)]
    times = (f"{spread(one_worker)} s", "in turn", f"{spread(no_worker)} s", spread(ratios, 2))
    return [f"| a step, loaded by a worker (loading alone {spread(loading)} s) | " + " | ".join(times) + " |"]


def run_python(code: str, *arguments: object) -> str:
    """Runs code in a new Python; returns what it prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


BASES = """
import torch, torchvision
from transformers import Pipeline, PreTrainedModel
from transformers.models.bert.modeling_bert import BertModel
from transformers.processing_utils import ProcessorMixin
from transformers.video_processing_utils import BaseVideoProcessor
"""


def start(repeats: int) -> list[str]:
    """From `python` to the package, beside torch and Transformers, and beside the classes of theirs that it uses."""
    others = {"import torch, transformers": "import torch, transformers", "the classes it derives from": BASES}
    others = {what: partial(run_python, code) for what, code in others.items()}
    return compare(repeats, "import modeling_siasamrea", partial(run_python, "import modeling_siasamrea"), others)


PARTS = {part.__name__: part for part in (inference, fast_paths, memory, siamese, reading, growth, together, start)}


def main(arguments: list[str] | None = None) -> None:
    """Runs the parts asked for and prints the rows of each, if the machine was quiet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"any of {', '.join(PARTS)}; all by default")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each work")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of one operation")
    given = parser.parse_args(arguments)
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    torch.set_num_threads(given.threads)
    packages = ", ".join(f"{name} {version(name)}" for name in ("siasamrea", "torch", "transformers", "av"))
    gpu = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "no GPU, float32"
    print(f"{packages}, Python {platform.python_version()}; {os.cpu_count()} cores, {given.threads} threads; {gpu}.")
    for part in given.parts or PARTS:
        with quiet_machine(f"during {part}"):
            rows = PARTS[part](given.repeats)
        header = "| what | median (range) | beside | median (range) | ratio |\n|---|---|---|---|---|\n"
        print(f"\n**{part}**: {PARTS[part].__doc__}\n\n{header}" + "\n".join(rows), flush=True)


if __name__ == "__main__":
    main()
