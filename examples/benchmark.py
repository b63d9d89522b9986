"""
Times the project against ClipBERT's way of doing the same work, on this machine, and prints one table.

    python examples/benchmark.py                         # everything, about twenty minutes on two cores
    python examples/benchmark.py inference training      # chosen parts
    python examples/benchmark.py --repeats 9 --threads 4

"ClipBERT's way" is the same network with the same weights: text padded to 100 tokens (25 for multiple choice), eager
attention, PyTorch's own linear layers, batch norms as passes of their own, a video encoded anew for each question or
shared as stated; videos opened and sought anew for each clip. Each row alternates the two and gives their medians and
ratio.
"""

import argparse
import copy
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from modeling_siasamrea import SiaSamReaConfig, SiaSamReaForVideoQuestionAnswering
from modeling_siasamrea.loss_siasamrea import siamese_loss
from modeling_siasamrea.onednn_linear import OneDnnLinear
from modeling_siasamrea.processors.siamese_sampling import adaptive_frames, sample_clips
from modeling_siasamrea.processors.video_decoding import decode_frames


Row = dict[str, object]


def medians(repeats: int, *works: Callable[[], object]) -> list[float]:
    """Median seconds of each of `works`, run in turn `repeats` times after one warm-up."""
    seconds: list[list[float]] = [[] for _ in works]
    for repeat in range(repeats + 1):
        for work, record in zip(works, seconds):
            start = time.perf_counter()
            work()
            if repeat:
                record.append(time.perf_counter() - start)
    return [statistics.median(record) for record in seconds]


def row(what: str, alternative: str, ours: float, theirs: float, note: str = "") -> Row:
    """One line of the table; the ratio says how many times faster ours is."""
    return {
        "what": what,
        "ours_s": ours,
        "alternative": alternative,
        "theirs_s": theirs,
        "ratio": theirs / ours,
        "note": note,
    }


def print_table(rows: list[Row]) -> None:
    """Prints the rows as a Markdown table."""
    print("\n| what | ours, s | alternative | alternative, s | ratio | note |\n|---|---|---|---|---|---|")
    for r in rows:
        print(
            f"| {r['what']} | {r['ours_s']:.3f} | {r['alternative']} | {r['theirs_s']:.3f} | {r['ratio']:.2f} "
            f"| {r['note']} |"
        )


# --- the model -------------------------------------------------------------------------------------------------------


def resnet50_bert_base(**fields) -> SiaSamReaForVideoQuestionAnswering:
    """ResNet-50 and BERT-base with random weights, ClipBERT's first two stages frozen."""
    torch.manual_seed(0)
    config = SiaSamReaConfig(
        tasks=["open_ended", "multiple_choice"],
        num_labels=1000,
        frozen_image_encoder_modules=["embedder", "encoder.stages.0"],
        **fields,
    )
    return SiaSamReaForVideoQuestionAnswering(config)


def clipbert_way(model: SiaSamReaForVideoQuestionAnswering) -> SiaSamReaForVideoQuestionAnswering:
    """A copy of `model` without the fast paths: plain layers and batch norms, plain memory format, eager attention."""
    config = copy.deepcopy(model.config)
    config.fold_batch_norm = False
    plain = SiaSamReaForVideoQuestionAnswering(config)
    plain.load_state_dict(model.state_dict())
    encoder = plain.model.image_encoder
    encoder.feature_map = lambda frames: encoder.encoder(frames).feature_maps[-1]
    plain.model.text_model.set_attn_implementation("eager")
    for module in plain.modules():
        if isinstance(module, OneDnnLinear):
            module.__class__ = nn.Linear
    return plain.train(model.training)


def make_batch(size: int, clips: int = 1, questions_per_video: int = 1, candidates: int = 0, videos: int = 4) -> dict:
    """`videos` videos of 2 frames a clip, questions of 12 tokens, answers drawn at random."""
    generator = torch.Generator().manual_seed(0)
    questions = videos * questions_per_video
    shape = (questions, candidates, 12) if candidates else (questions, 12)
    return {
        "pixel_values_videos": torch.randn(videos, clips, 2, 3, size, size, generator=generator),
        "input_ids": torch.randint(1000, 20000, shape, generator=generator),
        "attention_mask": torch.ones(shape, dtype=torch.long),
        "video_index": torch.arange(videos).repeat_interleave(questions_per_video),
        "task": "multiple_choice" if candidates else "open_ended",
        "labels": torch.arange(questions) % (candidates or 1000),
    }


def pad_text(batch: dict, length: int) -> dict:
    """The batch with its text padded to `length` tokens."""
    padding = length - batch["input_ids"].shape[-1]
    return batch | {name: nn.functional.pad(batch[name], (0, padding)) for name in ("input_ids", "attention_mask")}


def encode_each_question_anew(batch: dict) -> list[dict]:
    """One batch for each question of a video, as ClipBERT's released evaluation does."""
    per_video = len(batch["video_index"]) // len(batch["pixel_values_videos"])
    by_question = []
    for question in range(per_video):
        rows = slice(question, None, per_video)
        text = {name: batch[name][rows] for name in ("input_ids", "attention_mask", "labels")}
        by_question.append(batch | text | {"video_index": None})
    return by_question


def run_all(model: nn.Module, batches: list[dict]) -> None:
    """Runs the model on each batch."""
    for batch in batches:
        model(**batch)


def check_same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """A fast path must not change a number."""
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def against_bf16(what: str, model: nn.Module, batch: dict, repeats: int) -> Row:
    """Autocast to bf16 beside float32, and how far its answers are from float32's."""

    def autocast() -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(**batch).logits

    half, full = autocast(), model(**batch).logits
    changed = (half.argmax(dim=1) != full.argmax(dim=1)).sum()
    note = f"logits change by {(half - full).abs().max():.1e}, {changed} of {len(full)} answers"
    return row(f"{what}, bf16 autocast", "float32", *medians(repeats, autocast, partial(model, **batch)), note)


def inference(repeats: int) -> list[Row]:
    """One question, four questions a video, five candidates."""
    model = resnet50_bert_base().eval()
    plain = clipbert_way(model)
    rows = []
    for size in (224, 448):
        for what, batch, length in (
            (f"inference, {size} px, 1 question", make_batch(size), 100),
            (f"inference, {size} px, 4 questions a video", make_batch(size, questions_per_video=4), 100),
            (f"multiple choice, {size} px, 5 candidates", make_batch(size, candidates=5), 25),
        ):
            padded = pad_text(batch, length)
            with torch.inference_mode():
                check_same(model(**batch).logits, plain(**padded).logits)
                works = {"ClipBERT's way": partial(plain, **padded)}
                if len(batch["input_ids"]) > len(batch["pixel_values_videos"]):
                    works["the same, a video encoded for each question"] = partial(
                        run_all, plain, encode_each_question_anew(padded)
                    )
                ours, *theirs = medians(repeats, partial(model, **batch), *works.values())
                rows += [row(what, alternative, ours, seconds) for alternative, seconds in zip(works, theirs)]
                rows.append(against_bf16(what, model, batch, repeats))
    return rows


def compiled(repeats: int) -> list[Row]:
    """One question with `torch.compile`, against the model as it is; not used by the project."""
    model, batch = resnet50_bert_base().eval(), make_batch(224)
    compiled_model = torch.compile(model)
    with torch.inference_mode():
        start = time.perf_counter()
        answer = compiled_model(**batch).logits
        seconds = time.perf_counter() - start
        check_same(answer, model(**batch).logits)
        ours, theirs = medians(repeats, partial(compiled_model, **batch), partial(model, **batch))
    note = f"after {seconds:.0f} s of compiling"
    return [row("inference, 224 px, 1 question, torch.compile", "without", ours, theirs, note)]


def training_step(model: SiaSamReaForVideoQuestionAnswering, fused: bool = True) -> Callable[[dict], None]:
    """One optimizer step on a batch: forward, backward, clipping at 5.0, AdamW."""
    model.train()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-6, fused=fused)

    def step(batch: dict) -> None:
        outputs = model(**batch)
        loss = outputs.loss
        if outputs.soft_labels is not None:
            loss = loss + model.config.alpha * siamese_loss(outputs.logits, outputs.soft_labels, batch["task"]).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(trainable, 5.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def training(repeats: int) -> list[Row]:
    """Training steps of one clip and of four supervised clips."""
    rows = []
    for size, clips in ((224, 1), (448, 1), (224, 4)):
        fields = {"alpha": 0.0, "num_clips": clips, "supervised_clips": "anchor" if clips == 1 else "lse"}
        model = resnet50_bert_base(**fields)
        plain = clipbert_way(model)
        batch = make_batch(size, clips=clips)
        ours, theirs = medians(
            repeats,
            partial(training_step(model), batch),
            partial(training_step(plain, fused=False), pad_text(batch, 100)),
        )
        rows.append(row(f"training step, {size} px, {clips} clip(s) supervised", "ClipBERT's way", ours, theirs))
    return rows


def memory(field: str) -> float:
    """A size of this process in GB: `VmHWM`, its peak, or `VmRSS`, its present size."""
    # Not getrusage, whose peak a process inherits from the one that started it.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[field].split()[0]) / 2**20


def in_new_process(*arguments: object) -> list[float]:
    """What this script prints for hidden arguments, in a process whose memory nothing else has touched."""
    command = [sys.executable, __file__, *map(str, arguments), "--threads", str(torch.get_num_threads())]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(output.splitlines()[-1])


def run_step(clips: int, size: int, repeats: int) -> list[float]:
    """Median seconds, and peak memory in GB, of a training step with `clips` clips."""
    model = resnet50_bert_base(num_clips=max(clips, 2), alpha=float(clips > 1))
    return [*medians(repeats, partial(training_step(model), make_batch(size, clips=clips))), memory("VmHWM")]


def siamese(repeats: int) -> list[Row]:
    """The siamese step's time and peak memory over the one-clip step's, by number of clips."""
    rows = []
    one_seconds, one_memory = in_new_process("--step", 1, 224, repeats)
    for clips in (2, 3, 5, 9, 13):
        seconds, peak = in_new_process("--step", clips, 224, repeats)
        floor = (3 + clips - 1) / 3
        times, memory_times = seconds / one_seconds, peak / one_memory
        note = f"{times:.2f} times its time (floor {floor:.2f}), {memory_times:.2f} times its {one_memory:.2f} GB"
        rows.append(row(f"siamese training step, N = {clips}", "one-clip step", seconds, one_seconds, note))
    return rows


def growth(repeats: int) -> list[Row]:
    """Time of inference by questions a video and by candidates, over one question: the video is encoded once."""
    model, rows = resnet50_bert_base().eval(), []
    batches = {f"{n} questions a video": make_batch(224, questions_per_video=n) for n in (1, 4, 16)}
    batches |= {f"{n} candidates": make_batch(224, candidates=n) for n in (2, 5, 10)}
    with torch.inference_mode():
        frames = batches["1 questions a video"]["pixel_values_videos"]
        vision, *seconds = medians(
            repeats,
            lambda: model.model.get_video_features(frames),
            *[partial(model, **b) for b in batches.values()],
        )
    for what, second in zip(batches, seconds):
        rows.append(row(f"inference, 224 px, {what}", "its vision part alone", second, vision))
    return rows


# --- videos ----------------------------------------------------------------------------------------------------------


def write_video(path: Path, seconds: int, width: int, height: int) -> None:
    """A moving gradient with noise as H.264 at 25 frames a second, a key frame every 10 s."""
    import av

    generator = np.random.default_rng(0)
    noise = generator.integers(0, 40, (height, width, 3), dtype=np.uint8)
    ramp = np.linspace(0, 200, width, dtype=np.uint8)[None, :, None]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "250", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(25 * seconds):
            frame = np.roll(np.broadcast_to(ramp, noise.shape), 4 * index, axis=1) + np.roll(noise, index, axis=0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def training_clips(seconds: int) -> np.ndarray:
    """Frame indices `(9, frames)` of the clips of a [`write_video`] video, as training samples them."""
    return sample_clips(
        25 * seconds,
        num_clips=9,
        frames_per_clip=adaptive_frames(seconds),
        training=True,
        generator=np.random.default_rng(0),
    )


def run_decode(path: str, seconds: int) -> list[float]:
    """Peak memory in GB that decoding a video's clips adds, and the size of their frames."""
    indices, before = np.unique(training_clips(seconds)), memory("VmRSS")
    frames, _ = decode_frames(path, indices)
    return [memory("VmHWM") - before, frames.numel() / 2**30]


def decoding(repeats: int) -> list[Row]:
    """A video's clips in one pass, against opening and seeking for each clip and against a bare sequential decode."""
    import decord

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seconds, width, height in ((10, 320, 240), (10, 1280, 720), (60, 320, 240), (60, 1280, 720)):
            path = Path(folder) / f"{seconds}_{height}.mp4"
            write_video(path, seconds, width, height)
            clips = training_clips(seconds)

            def per_clip(path=path, clips=clips) -> None:
                for clip in clips:
                    decord.VideoReader(str(path)).get_batch(clip.tolist()).asnumpy()

            def bare(path=path, clips=clips) -> None:
                reader = decord.VideoReader(str(path))
                for _ in range(clips.max() + 1):
                    reader.next()

            what = f"9 clips of {seconds} s, {height}p"
            ours, theirs, floor = medians(
                repeats, lambda p=path, c=clips: decode_frames(p, np.unique(c)), per_clip, bare
            )
            peak, size = in_new_process("--decode", path, seconds)
            note = f"adds {peak:.2f} GB of memory for {size:.2f} GB of frames"
            rows.append(row(what, "opening and seeking for each clip", ours, theirs, note))
            rows.append(row(what, "bare decode to the last frame", ours, floor))
    return rows


def prepared(repeats: int) -> list[Row]:
    """Sampling a 720p video's clips from its fast copy (prepare_videos.py), against the original."""
    from modeling_siasamrea import SiaSamReaVideoProcessor
    from modeling_siasamrea.commands.prepare import prepare_video

    processor = SiaSamReaVideoProcessor(size={"longest_edge": 224}, do_rescale=False, do_normalize=False)
    with tempfile.TemporaryDirectory() as folder:
        original, copy_path = Path(folder) / "original.mp4", Path(folder) / "copy.mp4"
        write_video(original, 10, 1280, 720)
        prepare_video(original, copy_path, short_side=256, group=8, crf=20)
        works = [partial(processor, [str(path)], training=True, seed=0) for path in (copy_path, original)]
        ours, theirs = medians(repeats, *works)
        fast, slow = (work()["pixel_values_videos"][0].float() for work in works)
    note = f"pixels differ by {(fast - slow).abs().mean():.1f} of 255 on average"
    return [row("9 clips of 10 s, 720p, from the fast copy", "from the original", ours, theirs, note)]


def loading(repeats: int) -> list[Row]:
    """A two-worker loader's batches at the quickstart's size, against the model's training steps on them."""
    from modeling_siasamrea.annotations_siasamrea import load_video_questions
    from modeling_siasamrea.data_siasamrea import (
        SiaSamReaDataCollator,
        TrainingBatchSampler,
        VideoQuestionDataset,
    )
    from modeling_siasamrea.model_loading_siasamrea import build_model
    from modeling_siasamrea.sample_data import make_sample_data

    settings = json.loads((Path(__file__).parent / "configs" / "quickstart.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        make_sample_data(folder, train_videos=200, validation_videos=1, test_videos=1)
        questions = load_video_questions(Path(folder) / "train.jsonl", folder)
        model, processor = build_model(
            questions, config=settings["model_config"], video_processor=settings["video_processor"]
        )
        config, step = model.config, training_step(model)
        dataset = VideoQuestionDataset(questions, processor)
        batch_size = settings["per_device_train_batch_size"]
        sampler = TrainingBatchSampler(dataset, batch_size, settings["questions_per_video"], 0, config.num_clips)
        loader = torch.utils.data.DataLoader(
            dataset, batch_sampler=sampler, num_workers=2, collate_fn=SiaSamReaDataCollator(processor, config.label2id)
        )
        batches = list(loader)
        names = ("rows", "unreadable", "truncated")

        def train_on(batches: Iterable[dict]) -> None:
            for batch in batches:
                inputs = {name: value for name, value in batch.items() if name not in names}
                normalized = processor.video_processor.normalize_frames(inputs["pixel_values_videos"])
                step(inputs | {"pixel_values_videos": normalized})

        load, train, both = medians(
            max(1, repeats // 2), lambda: sum(1 for _ in loader), lambda: train_on(batches), lambda: train_on(loader)
        )
    count = len(batches)
    waiting = f"together {both / count:.3f} s a step: {max(0.0, both - train) / both:.0%} of it waiting for data"
    return [row("a batch of the quickstart, loaded", "a training step on it", load / count, train / count, waiting)]


def start_up(repeats: int) -> list[Row]:
    """Importing the package, against importing torch and the parts of Transformers it uses, in new processes."""
    code = """
import time
times = [time.perf_counter()]
import torch, torchvision
from transformers import AutoModel, AutoProcessor, AutoBackbone, BaseVideoProcessor, Pipeline
times.append(time.perf_counter())
import modeling_siasamrea
times.append(time.perf_counter())
print(times[1] - times[0], times[2] - times[1])
"""
    seconds = []
    for _ in range(repeats + 1):
        printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        seconds.append([float(word) for word in printed.split()])
    before, ours = map(statistics.median, zip(*seconds[1:]))
    note = f"+{ours:.2f} s"
    return [row("import modeling_siasamrea", "torch and transformers alone", before + ours, before, note)]


PARTS = {
    "decoding": decoding,
    "inference": inference,
    "compiled": compiled,
    "training": training,
    "siamese": siamese,
    "growth": growth,
    "prepared": prepared,
    "loading": loading,
    "start_up": start_up,
}


def main() -> None:
    """Runs the parts asked for and prints their rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"any of {', '.join(PARTS)}; all by default")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each work; the median is printed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of one operation")
    parser.add_argument("--output", type=Path, help="JSON file for the rows")
    parser.add_argument("--step", type=int, nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--decode", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.step:
        return print(json.dumps(run_step(*arguments.step)))
    if arguments.decode:
        path, seconds = arguments.decode
        return print(json.dumps(run_decode(path, int(seconds))))
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")

    rows: list[Row] = []
    for part in arguments.parts or PARTS:
        print(f"{part} ...", file=sys.stderr, flush=True)
        rows += PARTS[part](arguments.repeats)
    print(f"torch {torch.__version__}, {arguments.threads} threads, medians of {arguments.repeats} runs")
    print_table(rows)
    if arguments.output:
        arguments.output.write_text(json.dumps(rows, indent=2) + "\n")
    return None


if __name__ == "__main__":
    main()
