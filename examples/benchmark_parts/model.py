"""The rows of `benchmark.py` about the model: inference, training, memory."""

import os
import platform
import sys
import unittest.mock
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from benchmark_parts.measuring import DEVICE, Row, compare, in_new_process, operations_of, peak_memory, timed
from torch import nn
from transformers import AutoBackbone, AutoModel

from modeling_siasamrea import SiaSamReaConfig, SiaSamReaForVideoQuestionAnswering
from modeling_siasamrea.conversion.for_cpus import OneDnnLinear, pack_weights, run_wide_linears_by_onednn
from modeling_siasamrea.loss_siasamrea import siamese_loss


def resnet50_bert_base(**fields) -> SiaSamReaForVideoQuestionAnswering:
    """ResNet-50 and BERT-base with random weights, the same each time; ClipBERT's first two stages frozen."""
    torch.manual_seed(0)
    config = SiaSamReaConfig(
        tasks=["open_ended", "multiple_choice"],
        num_labels=1000,
        frozen_image_encoder_modules=["embedder", "encoder.stages.0"],
        **fields,
    )
    return SiaSamReaForVideoQuestionAnswering(config).to(DEVICE)


def with_plain_linears(model: nn.Module) -> nn.Module:
    """The model with PyTorch's own linear layers, in place."""
    for module in model.modules():
        if isinstance(module, OneDnnLinear):
            module.__class__ = nn.Linear
    return model


def without_fast_paths(**fields) -> SiaSamReaForVideoQuestionAnswering:
    """[`resnet50_bert_base`] with the same weights, batch norms as passes of their own and plain linear layers."""
    return with_plain_linears(resnet50_bert_base(fold_batch_norm=False, **fields))


def make_batch(size: int, clips: int = 1, questions_per_video: int = 1, candidates: int = 0, videos: int = 4) -> dict:
    """`videos` videos of 2 frames a clip, questions of 12 tokens, answers in turn."""
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


def pad_text(batch: dict, length: int) -> dict:
    """The batch with its text padded to `length` tokens."""
    padding = length - batch["input_ids"].shape[-1]
    return batch | {name: nn.functional.pad(batch[name], (0, padding)) for name in ("input_ids", "attention_mask")}


def encode_each_question_anew(batch: dict) -> list[dict]:
    """One batch for each question of a video."""
    per_video = len(batch["video_index"]) // len(batch["pixel_values_videos"])
    by_question = []
    for question in range(per_video):
        rows = slice(question, None, per_video)
        text = {name: batch[name][rows] for name in ("input_ids", "attention_mask", "labels")}
        by_question.append(batch | text | {"video_index": None})
    return by_question


def precision() -> AbstractContextManager:
    """The precision that models run in: bf16 autocast on a GPU, float32 on a processor."""
    return torch.autocast("cuda", torch.bfloat16) if DEVICE.type == "cuda" else nullcontext()


def forward(model: nn.Module, *batches: dict) -> torch.Tensor:
    """Runs the model on each batch; logits of the last."""
    with precision():
        return [model(**batch).logits for batch in batches][-1]


def check_same(ours: nn.Module, batch: dict, theirs: nn.Module, their_batch: dict) -> None:
    """A fast path must not change a number (on a GPU, whose algorithms for a convolution differ, the fourth digit)."""
    tolerance = 1e-5 if DEVICE.type == "cpu" else 1e-4
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        logits, expected = ours(**batch).logits, theirs(**their_batch).logits
    torch.testing.assert_close(logits, expected, atol=tolerance, rtol=tolerance)


def transformers_alone(model: SiaSamReaForVideoQuestionAnswering, batch: dict) -> Callable[[], None]:
    """Transformers' ResNet on as many frames and its BERT on as many tokens: no work is left out or shared further."""
    frames = batch["pixel_values_videos"].flatten(0, 2).contiguous(memory_format=torch.channels_last)
    names = ("pixel_values_videos", "input_ids", "video_index")
    tokens = torch.randn_like(model.model(**{name: batch[name] for name in names}).last_hidden_state)
    vision = AutoBackbone.from_config(model.config.vision_config).to(DEVICE).eval()
    text = AutoModel.from_config(model.config.text_config).to(DEVICE).eval()

    def run() -> None:
        with precision():
            vision(frames)
            text(inputs_embeds=tokens)

    return run


def half_or_full(model: nn.Module, batch: dict, what: str, repeats: int) -> Row:
    """Autocast to bf16 beside float32, and how far its answers are from float32's."""

    def autocast(enabled: bool) -> torch.Tensor:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=enabled):
            return model(**batch).logits

    half, full = autocast(True).float(), autocast(False)
    changed = (half.argmax(dim=1) != full.argmax(dim=1)).sum()
    note = f"logits change by {(half - full).abs().max():.1e}, {changed} of {len(full)} answers"
    (row,) = compare(
        repeats, f"{what}, bf16", timed(partial(autocast, True)), {"float32": timed(partial(autocast, False))}, note
    )
    return row


@torch.inference_mode()
def inference(repeats: int, sizes: tuple[int, ...] = (224, 448)) -> list[Row]:
    """One question, four questions a video, five candidates."""
    model, rows = resnet50_bert_base().eval(), []
    for size in sizes:
        for what, batch in (
            (f"inference, {size} px, 1 question", make_batch(size)),
            (f"inference, {size} px, 4 questions a video", make_batch(size, questions_per_video=4)),
            (f"multiple choice, {size} px, 5 candidates", make_batch(size, candidates=5)),
        ):
            works = {"Transformers' ResNet and BERT alone": transformers_alone(model, batch)}
            if len(batch["input_ids"]) > len(batch["pixel_values_videos"]):
                anew = encode_each_question_anew(batch)
                works["the video encoded anew for each question"] = partial(forward, model, *anew)
            others = {beside: timed(work) for beside, work in works.items()}
            rows += compare(repeats, what, timed(partial(forward, model, batch)), others)
            rows.append(half_or_full(model, batch, what, repeats))
    return rows


@torch.inference_mode()
def fast_paths(repeats: int, sizes: tuple[int, ...] = (224, 448)) -> list[Row]:
    """Inference with each of the package's fast paths taken away, and all of them in the model."""
    model, rows = resnet50_bert_base().eval(), []
    for size in sizes:
        batch = make_batch(size)
        without = {
            "batch norms as passes of their own": (resnet50_bert_base(fold_batch_norm=False).eval(), batch),
            "linear layers without oneDNN": (with_plain_linears(resnet50_bert_base()).eval(), batch),
            "neither": (without_fast_paths().eval(), batch),
            "text of 12 tokens padded to 100": (model, pad_text(batch, 100)),
        }
        for other in without.values():
            check_same(model, batch, *other)
        others = {beside: timed(partial(forward, *other)) for beside, other in without.items()}
        what = f"inference, {size} px, 1 question"
        rows += compare(repeats, what, timed(partial(forward, model, batch)), others)
    return rows


@torch.no_grad()
def packed_weights(repeats: int, sizes: tuple[int, ...] = (224, 448)) -> list[Row]:
    """One question about one video, as a pipeline answers it, beside a model that puts its weights in order anew."""
    if DEVICE.type != "cpu":
        return []
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        packed, plain = (resnet50_bert_base().to(dtype).eval() for _ in range(2))
        pack_weights(packed)
        for size in sizes:
            batch = make_batch(size, videos=1)
            batch["pixel_values_videos"] = batch["pixel_values_videos"].to(dtype)
            if dtype == torch.float32:
                check_same(packed, batch, plain, batch)
            ours, theirs = (timed(partial(forward, model, batch)) for model in (packed, plain))
            what = f"inference, {size} px, 1 question about 1 video, {str(dtype).removeprefix('torch.')}"
            rows += compare(repeats, what, ours, {"weights put in order anew": theirs})
    return rows


@torch.inference_mode()
def growth(repeats: int, size: int = 224) -> list[Row]:
    """Questions a video and candidates, beside the video alone, which is encoded once."""
    model, rows = resnet50_bert_base().eval(), []
    batches = {f"{n} questions a video": make_batch(size, questions_per_video=n) for n in (1, 4, 16)}
    batches |= {f"{n} candidates": make_batch(size, candidates=n) for n in (2, 5, 10)}

    def video() -> None:
        with precision():
            model.model.get_video_features(batches["1 questions a video"]["pixel_values_videos"])

    for what, batch in batches.items():
        ours = timed(partial(forward, model, batch))
        rows += compare(repeats, f"inference, {size} px, {what}", ours, {"its vision part alone": timed(video)})
    return rows


@torch.no_grad()
def peak(repeats: int, sizes: tuple[int, ...] = (224, 448), width: int = 4096, channels: int = 512) -> list[Row]:
    """One question of a pipeline, beside as many operations in one large product, or one large convolution."""
    model, rows = resnet50_bert_base().eval(), []
    batches = {size: make_batch(size, videos=1) for size in sizes}
    # Before packing: the operations of packed weights are not counted.
    operations_at = {size: operations_of(partial(forward, model, batch)) for size, batch in batches.items()}
    pack_weights(model)
    product = nn.Linear(width, width)
    run_wide_linears_by_onednn(product)
    convolution = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
    images = torch.randn(8, channels, 28, 28).contiguous(memory_format=torch.channels_last)
    large = {"product": (product, torch.randn(width, width)), "convolution": (convolution, images)}

    def once(layer: nn.Module, inputs: torch.Tensor) -> None:
        with precision():
            layer(inputs)

    def scaled(work: Callable[[], object], operations: int) -> Callable[[], float]:
        seconds, own_operations = timed(work), operations_of(work)
        return lambda: seconds() * operations / own_operations

    works = {name: partial(once, layer.to(DEVICE), inputs.to(DEVICE)) for name, (layer, inputs) in large.items()}
    for size in sizes:
        ours, operations = partial(forward, model, batches[size]), operations_at[size]
        others = {f"as many operations in one large {name}": scaled(work, operations) for name, work in works.items()}
        note = f"{operations / 1e9:.0f} GFLOP"
        rows += compare(repeats, f"inference, {size} px, 1 question about 1 video", timed(ours), others, note)
    return rows


@torch.no_grad()
def compiled(repeats: int, size: int = 224) -> list[Row]:
    """One question with `torch.compile`, its weights frozen or not; the project does not use it."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # its worker processes would count as others' work
    batch, rows = make_batch(size), []
    for what, options in (("torch.compile", {}), ("torch.compile with frozen weights", {"freezing": True})):
        model = resnet50_bert_base().eval()
        compiled_model = torch.compile(model, options=options)
        seconds = timed(partial(forward, compiled_model, batch))()
        check_same(compiled_model, batch, model, batch)
        others = {"without": timed(partial(forward, model, batch))}
        ours = timed(partial(forward, compiled_model, batch))
        note = f"after {seconds:.0f} s of compiling"
        rows += compare(repeats, f"inference, {size} px, 1 question, {what}", ours, others, note)
    return rows


# --- training --------------------------------------------------------------------------------------------------------


def training_step(model: SiaSamReaForVideoQuestionAnswering) -> Callable[[dict], None]:
    """One optimizer step on a batch: forward, backward, clipping at 5.0, AdamW."""
    model.train()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-6, fused=True)

    def step(batch: dict) -> None:
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


def training(repeats: int, cases: tuple[tuple[int, int], ...] = ((224, 1), (448, 1), (224, 4))) -> list[Row]:
    """Training steps of one clip, and of four supervised clips, with and without the fast paths."""
    rows = []
    for size, clips in cases:
        fields = {"alpha": 0.0, "num_clips": max(clips, 2), "supervised_clips": "anchor" if clips == 1 else "lse"}
        batch = make_batch(size, clips=clips)
        ours, plain = (training_step(make(**fields)) for make in (resnet50_bert_base, without_fast_paths))
        others = {
            "without the fast paths": timed(partial(plain, batch)),
            "the same, text of 12 tokens padded to 100": timed(partial(plain, pad_text(batch, 100))),
        }
        what = f"training step, {size} px, {clips} supervised clip{'s' if clips > 1 else ''}"
        rows += compare(repeats, what, timed(partial(ours, batch)), others)
    return rows


def step_of(clips: int, size: int, **fields) -> Callable[[], None]:
    """A training step with siamese reasoning over `clips` clips; with one, of the anchor alone."""
    model = resnet50_bert_base(num_clips=max(clips, 2), alpha=float(clips > 1), **fields)
    return partial(training_step(model), make_batch(size, clips=clips))


def siamese(repeats: int, size: int = 224, numbers: tuple[int, ...] = (2, 3, 5, 13, 9)) -> list[Row]:
    """The siamese step by its number of clips, beside the step of the anchor alone; and with siamese clips in bf16."""
    rows, one = [], timed(step_of(1, size))
    for clips in numbers:
        (row,) = compare(
            repeats, f"siamese training step, N = {clips}", timed(step_of(clips, size)), {"one-clip step": one}
        )
        # A backward pass is two forward passes, and the siamese clips have none.
        row.note = f"{row.times:.2f} times its time; the arithmetic is {(3 + clips - 1) / 3:.2f}"
        rows.append(row)
    in_bfloat16, in_float32 = (timed(step_of(clips, size, siamese_bfloat16=narrow)) for narrow in (True, False))
    what = f"siamese training step, N = {clips}, siamese clips in bfloat16"
    return rows + compare(repeats, what, in_bfloat16, {"all clips in float32": in_float32})


def peak_of_step(clips: int, size: int) -> float:
    """Peak memory in GB of a process that takes three steps of [`step_of`]."""
    step = step_of(clips, size)
    for _ in range(3):
        step()
    return peak_memory()


def seconds_of(training: bool, fast: bool, size: int, times: int) -> list[float]:
    """Seconds of each training step, or answer, with one clip, from the first on."""
    model, batch = (resnet50_bert_base if fast else without_fast_paths)(alpha=0.0, num_clips=2), make_batch(size)
    work = training_step(model) if training else partial(forward, model.eval())
    with nullcontext() if training else torch.inference_mode():
        return [timed(partial(work, batch))() for _ in range(times)]


def peak_of(training: bool, fast: bool, size: int) -> float:
    """Peak memory in GB of a process that trains, or answers, with one clip three times."""
    seconds_of(training, fast, size, 3)
    return peak_memory()


def memory_reuse(repeats: int, sizes: tuple[int, ...] = (224, 448)) -> list[Row]:
    """Freed memory that stays with the process, beside the C library's own way; each in a process of its own."""
    if platform.libc_ver()[0] != "glibc" or DEVICE.type != "cpu":
        return []
    rows, warm_up = [], 2
    for what, is_training in (("inference", False), ("training step", True)):
        for size in sizes:
            work = (seconds_of, is_training, True, size, warm_up + repeats)
            kept = in_new_process(*work)[warm_up:]
            # A setting that changes nothing, but is the user's own.
            with unittest.mock.patch.dict(os.environ, {"GLIBC_TUNABLES": "glibc.malloc.perturb=0"}):
                given_back = in_new_process(*work)[warm_up:]
            rows.append(Row(f"{what}, {size} px, 1 clip", "freed memory given back", kept, given_back))
    return rows


def peaks(repeats: int, size: int = 448) -> list[Row]:
    """Peak memory, each measured once, in a process of its own."""
    if DEVICE.type == "cpu" and sys.platform != "linux":
        return []
    rows = []
    for what, is_training in (("inference", False), ("training step", True)):
        ours, theirs = (in_new_process(peak_of, is_training, fast, size) for fast in (True, False))
        rows.append(Row(f"memory, {what}, {size} px, 1 clip", "without the fast paths", [ours], [theirs], unit="GB"))
    ours, theirs = (in_new_process(peak_of_step, clips, 224) for clips in (9, 1))
    return [*rows, Row("memory, siamese training step, N = 9", "one-clip step", [ours], [theirs], unit="GB")]
