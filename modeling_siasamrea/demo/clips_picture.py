"""Draws the clips of a video that a model sees, with a question and its answer."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..data.questions import VideoQuestion
from ..processors.video_processing_siasamrea import SiaSamReaVideoProcessor


FRAME_SIDE = 112
MARGIN = 6
TEXT_HEIGHT = 16


def draw_answer(row: VideoQuestion, answer: str, video_processor: SiaSamReaVideoProcessor, path: Path) -> None:
    """
    Saves a picture with a row of frames per clip, as training samples them, the anchor clip first and framed.

    Args:
        row (`VideoQuestion`): The question, its video and its annotated answer.
        answer (`str`): The model's answer.
        video_processor ([`SiaSamReaVideoProcessor`]): Samples the clips.
        path (`Path`): Where the picture goes.
    """
    how = {"training": True, "seed": 0, "start": row.start, "end": row.end}
    how |= {"do_rescale": False, "do_normalize": False}
    video = video_processor([row.video_source], return_tensors="pt", **how)
    clips = video["pixel_values_videos"][0]  # (clips, frames, 3, height, width)
    step = FRAME_SIDE + MARGIN
    top = 3 * TEXT_HEIGHT
    picture = Image.new("RGB", (clips.shape[1] * step + MARGIN, top + clips.shape[0] * (step + TEXT_HEIGHT)), "white")
    draw = ImageDraw.Draw(picture)
    draw.font = ImageFont.load_default(size=13)
    right = row.answer if None in (row.candidates, row.answer) else row.candidates[row.answer]
    draw.text((MARGIN, 4), f"Q: {row.question}", fill="black")
    draw.text((MARGIN, 4 + TEXT_HEIGHT), f"A: {answer}   (annotated: {right})", fill="black")
    for number, clip in enumerate(clips):
        y = top + number * (step + TEXT_HEIGHT)
        draw.text((MARGIN, y), "anchor clip" if number == 0 else f"siamese clip {number}", fill="black")
        for index, frame in enumerate(clip):
            x = MARGIN + index * step
            image = Image.fromarray(frame.permute(1, 2, 0).byte().numpy()).resize((FRAME_SIDE, FRAME_SIDE))
            picture.paste(image, (x, y + TEXT_HEIGHT))
            if number == 0:
                corner = (x + FRAME_SIDE, y + TEXT_HEIGHT + FRAME_SIDE)
                draw.rectangle(((x - 1, y + TEXT_HEIGHT - 1), corner), outline="crimson", width=2)
    picture.save(path)
