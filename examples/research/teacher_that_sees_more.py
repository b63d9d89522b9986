"""
Does a teacher that sees more frames help a student that keeps few? A study on a tiny model and a generated task.

    python examples/research/teacher_that_sees_more.py
    python examples/research/teacher_that_sees_more.py --report_only

In each video a color is shown for a moment, and a faint trace stays. A clip of 4 frames mostly misses the moment,
one of 16 never does. The model that all runs start from knows the color when it sees it, and no trace. A finished run
is a line of the results file and is not repeated; the tables are made from that file.
"""

import argparse
import itertools
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers as T
from run_ablation import read_results, seed_interval
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BatchFeature

from modeling_siasamrea import VideoQuestion
from modeling_siasamrea.processors.siamese_sampling import sample_clips
from modeling_siasamrea.video_language import VideoLanguageProcessor, VideoLanguageSettings
from modeling_siasamrea.video_language.data import VideoLanguageDataCollator
from modeling_siasamrea.video_language.modeling import reason_over_clips
from modeling_siasamrea.video_language.teacher import teacher_clips


COLORS = {"red": (230, 40, 40), "green": (40, 200, 40), "blue": (40, 60, 230), "yellow": (220, 210, 40)}
SIDES = ("top", "bottom", "left", "right")
QUESTIONS = {"color": ("which color is shown ?", tuple(COLORS)), "bar": ("where is the bar ?", SIDES)}
FRAMES, SIDE, RATE = 64, 16, 4  # of a video: frames, pixels, frames per second
MOMENT = 6  # frames that a color is shown
TRACE = 0.18  # of the color, over the background
STUDENT, TEACHER = 4, 16  # frames
BATCH = 16
EQUAL = (3 * STUDENT + TEACHER) / (3 * STUDENT)  # a backward pass counts as two forward passes
TEACHING = {"num_clips": 2, "teacher_frames": TEACHER, "reasoning_weights": "siamese"}
# The settings of a run, its steps as a multiple of the common number, and the frames that it is asked with.
VARIANTS = {
    "the start": ({"alpha": 0}, 0, STUDENT),
    f"the start, asked with {TEACHER} frames": ({"alpha": 0}, 0, TEACHER),
    "plain": ({"alpha": 0}, 1, STUDENT),
    "plain, equal arithmetic (more steps)": ({"alpha": 0}, EQUAL, STUDENT),
    "SiaSamRea, equal frames": ({"num_clips": 1 + TEACHER // STUDENT}, 1, STUDENT),
    "teacher_frames": (TEACHING, 1, STUDENT),
    "teacher_span": (TEACHING | {"teacher_span": True}, 1, STUDENT),
}
COMPARED = ("plain", "plain, equal arithmetic (more steps)", "SiaSamRea, equal frames")
KEY = ("variant", "videos", "seed")
T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365)  # of Student's t with 1, 2, ... degrees of freedom


# --- data and model --------------------------------------------------------------------------------------------------


@dataclass
class Videos:
    """
    Generated videos with a question about each: three of four about the color that is shown for a moment, the fourth
    about the side of a white bar, which every frame shows.

    Args:
        frames (`torch.Tensor` of shape `(videos, 64, 3, 16, 16)`): As uint8.
        first (`np.ndarray` of shape `(videos,)`): The first frame of the moment.
        kinds (`list[str]`): `"color"` or `"bar"`, what is asked.
        right (`np.ndarray` of shape `(videos,)`): Index of the right candidate.
        said (`np.ndarray` of shape `(videos,)`): Index of the candidate that the annotation names.
    """

    frames: torch.Tensor
    first: np.ndarray
    kinds: list[str]
    right: np.ndarray
    said: np.ndarray


def make_videos(number: int, seed: int, trace: float = TRACE, moment: int = MOMENT, wrong: float = 0.0) -> Videos:
    """Makes videos whose color leaves a trace, and annotations of which a share is wrong about the color."""
    rng = np.random.default_rng(seed)
    kinds = ["bar" if place % 4 == 3 else "color" for place in range(number)]
    color, side, first = rng.integers(4, size=number), rng.integers(4, size=number), rng.integers(40, size=number)
    frames = rng.normal(110, 10, (number, FRAMES, 3, SIDE, SIDE)).astype(np.float32)
    for video, of_color, of_side, start in zip(frames, color, side, first):
        tint = (np.array(list(COLORS.values())[of_color]) - 110)[:, None, None]
        video[start : start + moment, :, 4:12, 4:12] += tint
        video[start + moment :, :, 4:12, 4:12] += trace * tint
        video[(np.s_[:, :, :2], np.s_[:, :, -2:], np.s_[..., :2], np.s_[..., -2:])[of_side]] += 120
    right = np.where([kind == "bar" for kind in kinds], side, color)
    replaced = (rng.random(number) < wrong) & [kind == "color" for kind in kinds]
    said = np.where(replaced, (right + rng.integers(1, 4, size=number)) % 4, right)
    return Videos(torch.tensor(frames.clip(0, 255).astype(np.uint8)), first, kinds, right, said)


def make_model() -> tuple[T.PreTrainedModel, T.ProcessorMixin]:
    """Makes a random LLaVA-OneVision of 0.2 million parameters, whose tokens are words, and its processor."""
    words = " ".join(["user assistant where is the bar ? which color is shown [UNK]", *COLORS, *SIDES]).split()
    tokens = Tokenizer(models.WordLevel({word: place for place, word in enumerate(dict.fromkeys(words))}, "[UNK]"))
    tokens.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = T.PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="<pad>", eos_token="<end>")
    tokenizer.add_tokens(["<image>", "<video>", "<start>", "<end>"], special_tokens=True)
    size, grid = {"height": SIDE, "width": SIDE}, (SIDE // 8) ** 2
    processor = T.LlavaOnevisionProcessor(
        T.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=[[SIDE, SIDE]]),
        tokenizer,
        T.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=grid,
        vision_feature_select_strategy="full",
        chat_template=(
            "{% for turn in messages %}<start>{{ turn.role }} {% for part in turn.content %}"
            "{% if part.type == 'video' %}<video>{% else %}{{ part.text }}{% endif %}{% endfor %}<end>"
            "{% endfor %}{% if add_generation_prompt %}<start>assistant {% endif %}"
        ),
    )
    width = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    language = width | {"model_type": "qwen2", "num_key_value_heads": 2, "vocab_size": len(tokenizer)}
    vision = width | {"model_type": "siglip_vision_model", "image_size": SIDE, "patch_size": 8}
    config = T.LlavaOnevisionConfig(
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=[[SIDE, SIDE]],
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        vision_config=vision | {"vision_use_head": False},
        text_config=language | {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id},
    )
    torch.manual_seed(0)
    return T.LlavaOnevisionForConditionalGeneration(config), processor


# --- runs ------------------------------------------------------------------------------------------------------------


class Prompts:
    """Makes the model's inputs; all prompts have as many words, so each is tokenized once for a number of frames."""

    def __init__(self, family: T.ProcessorMixin):
        wording = {"likelihood": "{question} {candidates}"}
        processor = VideoLanguageProcessor(family, VideoLanguageSettings(prompts=wording))
        self.collator = VideoLanguageDataCollator(processor, share=False)
        self.written: dict[tuple[str, int, int], tuple[torch.Tensor, torch.Tensor]] = {}

    def write(self, kind: str, answer: int, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the tokens of a prompt with an answer, `(length,)`, and the labels of its last positions."""
        if (kind, answer, frames) not in self.written:
            question, candidates = QUESTIONS[kind]
            asked = VideoQuestion("v", question, answer, "multiple_choice", "1", tuple(candidates))
            clip = (torch.zeros(frames, 3, SIDE, SIDE, dtype=torch.uint8), [float(i) for i in range(frames)], 64.0)
            item = {"rows": (0,), "questions": [asked], "clips": [clip], "frame_times": clip[1], "training": True}
            (part,) = self.collator([item])["parts"]
            self.written[kind, answer, frames] = part["clips"][0]["input_ids"][0], part["labels"][0]
        return self.written[kind, answer, frames]

    def batch(self, videos: Videos, rows: np.ndarray, indices: np.ndarray) -> tuple[BatchFeature, torch.Tensor]:
        """Returns the model's inputs for a clip `(rows, frames)` of each row, and the labels."""
        written = [self.write(videos.kinds[row], int(videos.said[row]), indices.shape[1]) for row in rows]
        ids, labels = map(torch.stack, zip(*written))
        pixels = videos.frames[torch.as_tensor(rows)[:, None], torch.as_tensor(indices)].float() / 127.5 - 1
        return BatchFeature({"input_ids": ids, "attention_mask": ids != -1, "pixel_values_videos": pixels}), labels


def clips_of(first: int, settings: VideoLanguageSettings, number: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Samples a video's clips as training does, the anchor first."""
    sampling = {"frames_per_clip": settings.frames_per_clip, "training": True, "generator": rng}
    if settings.teacher_frames is None:
        return [*sample_clips(FRAMES, num_clips=number, **sampling)]
    (anchor,) = sample_clips(FRAMES, num_clips=1, **sampling)
    spans = [(first / RATE, (first + MOMENT) / RATE)] if settings.teacher_span else []
    times = np.arange(FRAMES) / RATE
    return [anchor, *teacher_clips(anchor, times, number - 1, settings.teacher_frames, spans, rng)]


def train(
    model: T.PreTrainedModel, prompts: Prompts, videos: Videos, seed: int, steps: int, rate: float, **settings
) -> dict[str, float | None]:
    """Trains a model; returns how often the soft label and the anchor named the annotated answer, late in training."""
    settings = VideoLanguageSettings(**settings)
    number = settings.num_clips if settings.siamese_clips_trained else 1
    rng, log = np.random.default_rng(seed), {"teacher_right": [], "anchor_right": []}
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = T.get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
    model.train()
    order = np.concatenate([rng.permutation(len(videos.kinds)) for _ in range(1 + steps * BATCH // len(videos.kinds))])
    for step in range(steps):
        rows = order[step * BATCH : (step + 1) * BATCH]
        sampled = zip(*(clips_of(videos.first[row], settings, number, rng) for row in rows))
        clips, labels = zip(*(prompts.batch(videos, rows, np.stack(of_rows)) for of_rows in sampled))
        output = reason_over_clips(model, list(clips), labels[0], settings)
        loss = output.loss if output.loss_siamese is None else output.loss + settings.alpha * output.loss_siamese
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if output.soft_labels is not None and step >= steps // 2:
            right = output.tokens.labels[::2]  # of each answer the word, not its end
            log["teacher_right"].append((output.soft_labels.argmax(dim=1)[::2] == right).float().mean().item())
            log["anchor_right"].append((output.clip_predictions[::2, 0] == right).float().mean().item())
    return {name: round(float(np.mean(values)), 4) if values else None for name, values in log.items()}


@torch.no_grad()
def correct(model: T.PreTrainedModel, prompts: Prompts, videos: Videos, frames: int) -> dict[str, str]:
    """Asks for the likeliest candidate; returns by kind of question which answers are right, as 0 and 1."""
    model.eval()
    clip = sample_clips(FRAMES, num_clips=1, frames_per_clip=frames, training=False)
    right: dict[str, list[str]] = {"color": [], "bar": []}
    for rows in np.array_split(np.arange(len(videos.kinds)), -(-len(videos.kinds) // 64)):
        inputs, labels = prompts.batch(videos, rows, clip.repeat(len(rows), axis=0))
        scores = model(**inputs, logits_to_keep=labels.shape[1]).logits[:, 0]  # (rows, vocabulary), of the answer
        for row, of_row in zip(rows, scores):
            words = prompts.collator.processor.tokenizer.convert_tokens_to_ids(list(QUESTIONS[videos.kinds[row]][1]))
            right[videos.kinds[row]].append("01"[int(of_row[words].argmax() == videos.right[row])])
    return {kind: "".join(of_kind) for kind, of_kind in right.items()}


def run_missing(options: argparse.Namespace) -> None:
    """Runs what the results file lacks, seed by seed."""
    model, family = make_model()
    prompts, test = Prompts(family), make_videos(options.test_videos, seed=2000)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.start.parent.mkdir(parents=True, exist_ok=True)
    if not options.start.exists():
        videos = make_videos(options.start_videos, seed=1000, trace=0.0, moment=4 * MOMENT)
        train(model, prompts, videos, 0, options.start_steps, 2e-3, alpha=0, frames_per_clip=TEACHER)
        torch.save(model.state_dict(), options.start)
    start = torch.load(options.start)
    for (number, common), seed in itertools.product(zip(options.videos, options.steps), range(options.seeds)):
        videos = make_videos(number, seed, wrong=options.wrong)
        for variant, (settings, factor, frames) in VARIANTS.items():
            if (variant, number, seed) in read_results(options.results, KEY):
                continue
            model.load_state_dict(start)
            steps, begun = round(factor * common), time.process_time()
            late = train(model, prompts, videos, seed, steps, options.rate, frames_per_clip=STUDENT, **settings)
            result = {"variant": variant, "videos": number, "seed": seed, "steps": steps}
            result |= {"cpu_seconds": round(time.process_time() - begun, 1), **late}
            result["correct"] = correct(model, prompts, test, frames)
            with open(options.results, "a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
            print(number, seed, variant, {kind: round(share(line), 3) for kind, line in result["correct"].items()})


# --- report ----------------------------------------------------------------------------------------------------------


def share(line: str) -> float:
    """Returns the share of right answers in a line of 0 and 1."""
    return line.count("1") / len(line)


def tables(results: Path) -> str:
    """Returns the tables of the results file, in Markdown."""
    runs: dict[int, dict[str, dict[int, dict]]] = {}
    for (variant, number, seed), run in read_results(results, KEY).items():
        runs.setdefault(number, {}).setdefault(variant, {})[seed] = run
    return "\n\n".join(
        f"**{number} training videos**\n\n{scores(of)}\n\n{differences(of)}"
        for number, of in sorted(runs.items(), reverse=True)
    )


def scores(runs: dict[str, dict[int, dict]]) -> str:
    """Returns the table of scores: mean over seeds, and half a 95 % interval."""
    lines = ["| variant | seeds | steps | color | bar | soft label right | anchor right | CPU s |", "|---" * 8 + "|"]
    for variant in filter(runs.get, VARIANTS):
        of = list(runs[variant].values())
        cells = [variant, len(of), of[0]["steps"]]
        cells += [
            "{:.3f} ± {:.3f}".format(*seed_interval([share(r["correct"][kind]) for r in of])) for kind in QUESTIONS
        ]
        for name in ("teacher_right", "anchor_right"):
            cells.append("" if of[0][name] is None else f"{np.mean([run[name] for run in of]):.3f}")
        cells.append(f"{np.mean([run['cpu_seconds'] for run in of]):.0f}")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def differences(runs: dict[str, dict[int, dict]]) -> str:
    """Returns the table of differences of the score on color, paired by seed: mean and 95 % interval (Student's t)."""
    lines = ["| color, minus | " + " | ".join(COMPARED) + " |", "|---" * (1 + len(COMPARED)) + "|"]
    for ours in filter(runs.get, list(VARIANTS)[3:]):
        cells = [ours]
        for theirs in COMPARED:
            seeds = sorted(set(runs[ours]) & set(runs.get(theirs, {})))
            if ours == theirs or not 1 < len(seeds) < len(T_975) + 2:
                cells.append("")
                continue
            scores = [[share(runs[name][seed]["correct"]["color"]) for seed in seeds] for name in (ours, theirs)]
            difference = np.subtract(*scores)  # (seeds,)
            half = T_975[len(seeds) - 2] * difference.std(ddof=1) / len(seeds) ** 0.5
            cells.append(f"{difference.mean():+.3f} ± {half:.3f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_report(results: Path, page: Path) -> None:
    """Puts the tables between the marks of the page."""
    text = page.read_text(encoding="utf-8")
    between = re.compile(r"(<!-- tables -->\n).*?(<!-- end of tables -->)", re.DOTALL)
    page.write_text(between.sub(lambda marks: f"{marks[1]}\n{tables(results)}\n\n{marks[2]}", text), encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    here = Path(__file__).parent / "teacher"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=here / "results.jsonl", help="a line for each run")
    parser.add_argument("--page", type=Path, default=here / "README.md", help="gets the tables")
    parser.add_argument(
        "--start", type=Path, default=Path("outputs/teacher/start.pt"), help="weights; made if missing"
    )
    parser.add_argument("--report_only", action="store_true")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, nargs="+", default=[150], help="for each number of videos")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate")
    parser.add_argument("--videos", type=int, nargs="+", default=[640], help="for training, of each seed")
    parser.add_argument("--test_videos", type=int, default=320)
    parser.add_argument("--start_videos", type=int, default=640)
    parser.add_argument("--start_steps", type=int, default=400)
    parser.add_argument("--wrong", type=float, default=0.25, help="share of wrong answers about the color")
    options = parser.parse_args(argv)
    if not options.report_only:
        run_missing(options)
    write_report(options.results, options.page)


if __name__ == "__main__":
    main()
