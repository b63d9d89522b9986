"""
Writes a small data set for video question answering; nothing is downloaded.

    siasamrea train quickstart

Coloured shapes cross the picture from left to right, over a moving texture. On their way they act: in half of the
videos one action is repeated two to five times, in the other half two different actions follow each other. The videos
are H.264 mp4 files; `train.jsonl`, `validation.jsonl` and `test.jsonl` ask TGIF-QA's four kinds of question about
them:

    color, shape  open-ended: what color is the circle? what shape crosses the picture?
    action        multiple choice: what does the circle do 3 times?
    transition    multiple choice: what does the circle do after it hops?
    count         how many times does the circle hop?

What a question needs is always in the pictures: answers are drawn evenly for each wording, wrong candidates from the
same actions as the right one. The network takes the mean over a clip's frames, so time must be visible in space: a
shape's place tells when it acted.

With `event_seconds`, a digit shows once for that long, and each video has a question about its digit and one about
its color or shape (question type `what`). If the digit shows for less than the interval between a clip's frames, one
clip may miss it and a siamese clip see it; the studies of siamese sampling use this.
"""

import hashlib
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from ..configuration_siasamrea import did_you_mean
from ..data.workers import end_with_parent


GENERATOR_VERSION = 1
SPLITS = ("train", "validation", "test")
COLORS = {
    "red": (230, 30, 30),
    "green": (30, 200, 40),
    "blue": (40, 70, 240),
    "yellow": (240, 220, 20),
    "magenta": (230, 40, 220),
    "cyan": (30, 220, 230),
}
SHAPES = ("circle", "square", "triangle", "cross")
DIGITS = tuple("12345")
ACTIONS = {
    "flash": "flashes",
    "grow": "grows",
    "hop": "hops",
    "dive": "dives",
    "split": "splits",
    "stretch": "stretches",
}
MAX_REPEATS = 5
NUM_CANDIDATES = 5


@dataclass(frozen=True)
class SampleData:
    """
    Parameters of a data set; two data sets with equal parameters are equal.

    Args:
        train_videos (`int`): Videos to train on; four questions each.
        validation_videos (`int`): Videos to choose by.
        test_videos (`int`): Videos to report on.
        size (`int`): Side of the square videos, in pixels.
        seconds (`float`): Length of a video.
        fps (`int`): Frames per second.
        event_seconds (`float`): How long a digit shows; 0 for no digit.
        action_share (`float`): How much of its fifth of the video an action lasts.
        noise (`float`): Standard deviation of the pixels' noise, of 255.
        seed (`int`): Seed of everything random.
    """

    train_videos: int = 800
    validation_videos: int = 60
    test_videos: int = 100
    size: int = 64
    seconds: float = 5.0
    fps: int = 5
    event_seconds: float = 0.0
    action_share: float = 0.6
    noise: float = 4.0
    seed: int = 0


@dataclass(frozen=True)
class Story:
    """What happens in a video: who acts, the actions in order with their frames, and the digit with its frames."""

    name: str
    seed: int
    color: str
    shape: str
    digit: str
    actions: tuple[str, ...]
    action_frames: tuple[tuple[int, int], ...]
    digit_frames: tuple[int, int]


def write_story(data: SampleData, split: str, index: int) -> Story:
    """Writes the story of a video. Odd videos repeat one action, even ones have two different actions."""
    seed = int.from_bytes(hashlib.sha256(f"{data.seed}/{split}/{index}".encode()).digest()[:6], "little")
    rng = np.random.default_rng(seed)
    # Each shape acts in its own colour: all combinations in turn, so that neither tells the other.
    turn = index // 2
    color, shape = list(COLORS)[turn % len(COLORS)], SHAPES[turn // len(COLORS) % len(SHAPES)]
    if index % 2:
        actions = (str(rng.choice(list(ACTIONS))),) * int(rng.integers(2, MAX_REPEATS + 1))
    else:
        actions = tuple(map(str, rng.choice(list(ACTIONS), 2, replace=False)))
    frames = round(data.seconds * data.fps)
    slot = frames / MAX_REPEATS
    length = max(1, round(slot * data.action_share))
    slots = np.sort(rng.choice(MAX_REPEATS, len(actions), replace=False))
    starts = [int(slot * place) + int(rng.integers(max(1, int(slot) - length))) for place in slots]
    digit_length = max(1, round(data.event_seconds * data.fps)) if data.event_seconds else 0
    digit_start = int(rng.integers(frames - digit_length + 1))
    return Story(
        name=f"{split}_{index:05d}.mp4",
        seed=seed,
        color=color,
        shape=shape,
        digit=str(rng.choice(DIGITS)),
        actions=actions,
        action_frames=tuple((start, start + length) for start in starts),
        digit_frames=(digit_start, digit_start + digit_length),
    )


# --- questions -------------------------------------------------------------------------------------------------------


def ask(story: Story) -> list[dict]:
    """Asks the questions about a video; returns rows of the annotation file."""
    rng = np.random.default_rng(story.seed + 1)
    asked = ("color", "shape")
    shows_digit = story.digit_frames[0] < story.digit_frames[1]
    if shows_digit:
        asked = ("digit", "color") if story.seed % 2 else ("digit", "shape")
    questions = {
        "color": (f"what color is the {story.shape} ?", story.color),
        "shape": ("what shape crosses the picture ?", story.shape),
        "digit": ("what digit shows ?", story.digit),
    }
    rows = []
    for name in asked:
        question, answer = questions[name]
        kind = "what" if shows_digit else name
        rows.append({"task": "open_ended", "question_type": kind, "question": question, "answer": answer})
    if len(set(story.actions)) == 1:
        action, repeats = story.actions[0], len(story.actions)
        question = f"what does the {story.shape} do {repeats} times ?"
        rows.append(multiple_choice("action", question, action, rng))
        question = f"how many times does the {story.shape} {action} ?"
        rows.append({"task": "count", "question_type": "count", "question": question, "answer": repeats})
    else:
        earlier, later = story.actions
        for word, given, answer in (("after", earlier, later), ("before", later, earlier)):
            question = f"what does the {story.shape} do right {word} it {ACTIONS[given]} ?"
            rows.append(multiple_choice("transition", question, answer, rng, never=given))
    name = Path(story.name).stem
    return [{"video": f"videos/{story.name}", "question_id": f"{name}_{i}"} | row for i, row in enumerate(rows)]


def multiple_choice(question_type: str, question: str, answer: str, rng: np.random.Generator, never: str = "") -> dict:
    """Makes a multiple-choice row: the right action and wrong ones in random order."""
    others = [action for action in ACTIONS if action not in (answer, never)]
    wrong = rng.choice(others, NUM_CANDIDATES - 1, replace=False)
    candidates = [str(action) for action in rng.permutation([answer, *wrong])]
    row = {"task": "multiple_choice", "question_type": question_type, "question": question}
    return row | {"candidates": candidates, "answer": candidates.index(answer)}


# --- pictures --------------------------------------------------------------------------------------------------------


def background(size: int, index: int, rng_seed: int) -> np.ndarray:
    """Draws the picture `(size, size, 3)` behind frame `index`."""
    coarse = Image.fromarray(np.random.default_rng(rng_seed).integers(0, 50, (8, 8, 3), dtype=np.uint8))
    return np.roll(np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)), index, axis=1)


def draw_shape(draw: ImageDraw.ImageDraw, shape: str, box: tuple[float, ...], fill: tuple) -> None:
    """Draws `shape` into `box` (left, top, right, bottom)."""
    left, top, right, bottom = box
    if shape == "circle":
        draw.ellipse(box, fill=fill)
    elif shape == "square":
        draw.rectangle(box, fill=fill)
    elif shape == "triangle":
        draw.polygon([(left, bottom), ((left + right) / 2, top), (right, bottom)], fill=fill)
    else:
        third, drop = (right - left) / 3, (bottom - top) / 3
        bars = [(left + third, top, left + 2 * third, bottom), (left, top + drop, right, top + 2 * drop)]
        for x0, y0, x1, y1 in bars:
            draw.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill=fill)


def draw_frame(data: SampleData, story: Story, index: int) -> np.ndarray:
    """Draws frame `index` of a video, `(size, size, 3)`."""
    size, frames = data.size, round(data.seconds * data.fps)
    image = Image.fromarray(np.ascontiguousarray(background(size, index, story.seed)))
    draw = ImageDraw.Draw(image)
    action = next((a for a, (start, end) in zip(story.actions, story.action_frames) if start <= index < end), None)

    x, y, half_width, half_height = size * (0.15 + 0.7 * index / frames), size * 0.5, size * 0.15, size * 0.15
    color = COLORS[story.color]
    if action == "flash":
        color = (255, 255, 255)
    elif action == "grow":
        half_width = half_height = size * 0.28
    elif action == "stretch":
        half_width, half_height = size * 0.05, size * 0.45
    elif action in ("hop", "dive"):
        y += size * (0.33 if action == "dive" else -0.33)
    heights = (y - size * 0.28, y + size * 0.28) if action == "split" else (y,)
    for height in heights:
        box = (x - half_width, height - half_height, x + half_width, height + half_height)
        draw_shape(draw, story.shape, box, color)

    start, end = story.digit_frames
    if start <= index < end:
        font = ImageFont.load_default(size=size)
        draw.text((size / 2, size / 2), story.digit, font=font, fill=(255, 255, 255), anchor="mm", stroke_width=2)
    noise = np.random.default_rng((story.seed, index)).normal(0, data.noise, (size, size, 3))
    return (np.asarray(image) + noise).clip(0, 255).astype(np.uint8)


def write_video(data: SampleData, folder: Path, story: Story) -> None:
    """Draws and encodes one video."""
    with av.open(str(folder / story.name), "w") as container:
        # A fixed quantiser and the plainest preset: x264's analysis gives other bytes from one process to the next.
        options = {"qp": "18", "preset": "ultrafast"}
        stream = container.add_stream("libx264", rate=data.fps, options=options)
        stream.width = stream.height = data.size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for index in range(round(data.seconds * data.fps)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_frame(data, story, index), format="rgb24")))
        container.mux(stream.encode())


# --- the data set ----------------------------------------------------------------------------------------------------


def make_sample_data(output_dir: str | Path, **parameters) -> Path:
    r"""
    Writes the data set, unless the folder has it already.

    Args:
        output_dir (`str` or `Path`):
            The folder; it gets `videos/`, a JSONL file per split, and `dataset.json` with the parameters, the
            generator's version and a hash of the annotations.
        parameters: Fields of [`SampleData`].

    Returns:
        `Path`: the folder.

    Raises:
        `ValueError`: If the folder has a data set of other parameters, or a parameter is out of range.
    """
    output_dir = Path(output_dir)
    did_you_mean("The sample data", parameters, SampleData.__dataclass_fields__)
    for name, value in parameters.items():
        if not isinstance(value, int | float):
            raise ValueError(f"{name} of the sample data must be a number; got {value!r:.100}.")
    data = SampleData(**parameters)
    frames = round(data.seconds * data.fps)
    if data.size % 2 or data.size < 32 or frames < 4 * MAX_REPEATS:
        raise ValueError(
            f"Videos need an even size from 32 on and {4 * MAX_REPEATS} frames; got size {data.size}, {frames} frames."
        )
    counts = {split: range(getattr(data, f"{split}_videos")) for split in SPLITS}
    stories = {split: [write_story(data, split, index) for index in indices] for split, indices in counts.items()}
    lines = {split: "".join(json.dumps(row) + "\n" for one in of for row in ask(one)) for split, of in stories.items()}
    digest = hashlib.sha256("".join(lines.values()).encode()).hexdigest()
    description = {"generator_version": GENERATOR_VERSION, "parameters": asdict(data), "annotations_sha256": digest}

    description_file = output_dir / "dataset.json"
    if description_file.exists():
        if json.loads(description_file.read_text()) == description:
            return output_dir
        raise ValueError(f"{output_dir} has a data set of other parameters; choose another folder, or remove it.")
    (output_dir / "videos").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(initializer=end_with_parent) as pool:
        everything = [story for of_split in stories.values() for story in of_split]
        written = pool.map(partial(write_video, data, output_dir / "videos"), everything, chunksize=8)
        list(tqdm(written, total=len(everything), desc="Writing sample videos", unit="video"))
    for split, text in lines.items():
        (output_dir / f"{split}.jsonl").write_text(text)
    description_file.write_text(json.dumps(description, indent=2) + "\n")  # last: it says that all is there
    return output_dir
