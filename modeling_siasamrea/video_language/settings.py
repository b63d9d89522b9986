"""Settings of a video-language model that are not in its own files: sampling, method and wording."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers.utils import cached_file

from ..configuration_siasamrea import SiaSamReaConfig
from ..data.tables import read_json
from ..processors.video_processing_siasamrea import SiaSamReaVideoProcessor, refuse_unknown_names
from ..training.start import explained


SETTINGS_NAME = "siamese_reasoning.json"
PROMPTS = {
    "open_ended": "{question}\nAnswer with a single word or a short phrase.",
    "count": "{question}\nAnswer with a single number.",
    "likelihood": "{question}\n{candidates}\nAnswer with the right one of them.",
    "letters": "{question}\n{candidates}\nAnswer with the letter of the right one.",
}
# The letters' wording of common harnesses, by a name that stands in for a prompt.
HARNESSES = {
    # EgoSchema's in lmms-eval (lmms_eval/tasks/egoschema/utils.py); LongVideoBench's there has a line break behind it.
    "lmms_eval": "{question}\n{candidates}\nAnswer with the option's letter from the given choices directly.",
    # That of the authors of Video-MME without subtitles (README of their repository).
    "video_mme": "Select the best answer to the following multiple-choice question based on the video. Respond with "
    "only the letter (A, B, C, or D) of the correct option.\n{question}\n{candidates}\nThe best answer is:",
    # Video-MME's without subtitles in VLMEvalKit (vlmeval/dataset/videomme.py).
    "vlmevalkit": "\nThese are the frames of a video. Select the best answer to the following multiple-choice "
    "question based on the video. Respond with only the letter (A, B, C, or D) of the correct option.\n"
    "Question: {question}\n{candidates}\nAnswer: ",
}
METHOD = ("num_clips", "alpha", "omega", "affinity", "reasoning_weights", "supervised_clips")
FAMILY_SAMPLING = ("fps", "num_frames", "min_frames", "max_frames", "max_duration")
MOST_FRAMES = 768  # of a family that says none; Qwen's
SAMPLING = ("num_clips", "frames_per_clip", "min_frames", "max_frames", "sampling", "window", "fps")


def optional_file(name_or_path: str | Path, file: str) -> str | None:
    """Returns the path of a file in a folder or hub repository (offline, in the cache); `None` if there is none."""
    optional = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    return cached_file(str(name_or_path), file, **optional)


@strict
@dataclasses.dataclass
class VideoLanguageSettings:
    r"""
    Holds the settings of siamese sampling and reasoning over a video-language model, and the wording of its prompts.
    They are saved beside each adapter or checkpoint as `siamese_reasoning.json`.

    Args:
        num_clips (`int`, *optional*, defaults to 4):
            N, the clips of a video in training. Paper: 9. Decision: 4, because these models are large: the siamese
            clips of a step with N = 9 cost three times more than its anchor clip does.
        alpha (`float`, *optional*, defaults to 1.0): Weight of the siamese loss in equation 8 (paper). 0: baseline.
        omega (`float`, *optional*, defaults to 0.5): Weight of the propagated knowledge in equations 3 to 5 (paper).
        affinity (`str`, *optional*, defaults to `"knowledge"`):
            `"knowledge"`: equations 1 and 2. `"average"`: the paper's "w/ SKR".
        reasoning_weights (`str`, *optional*, defaults to `"uniform"`):
            W1 and W2 of equations 3 to 5. Decision: fixed, `"uniform"`, `"anchor"` or `"siamese"`, see
            [`SiaSamReaConfig`]; learned ones would be parameters that Transformers alone could not load.
        supervised_clips (`str`, *optional*, defaults to `"anchor"`):
            Clips that the ground-truth loss is computed on: `"anchor"`, or `"all"` (with `alpha=0` the baseline of
            equal compute).
        frames_per_clip (`int`, `"adaptive"` or `"family"`, *optional*, defaults to `"adaptive"`):
            Frames per clip, or `fps` per second from `min_frames` to `max_frames`; `"family"`: as the family's own
            video processor samples, see [`~VideoLanguageSettings.of_family`]. A fixed number lets clips of different
            videos share a forward pass.
        min_frames (`int`, *optional*, defaults to 5): Fewest frames of an adaptive clip (paper).
        max_frames (`int`, *optional*, defaults to 16): Most frames of an adaptive clip (paper).
        sampling (`str`, *optional*, defaults to `"siamese"`): `"siamese"`, `"copies"` or
            `"random_windows"`, see [`SiaSamReaVideoProcessor`].
        window (`float`, *optional*, defaults to 0.5): Farthest siamese start, in frame intervals.
        teacher_frames (`int`, *optional*):
            Frames of each siamese clip: those of the anchor, and further ones spread over the video. Their soft label
            is then that of a teacher that sees more, of which the anchor has no share, so `reasoning_weights` must be
            `"siamese"` (decision). One such clip (`num_clips=2`) is a teacher. Siamese clips are as long as the anchor
            by default (paper).
        teacher_span (`bool`, *optional*, defaults to `False`):
            Whether the further frames are from the row's `evidence`. Questions about a video that are trained on
            together share a teacher, which sees the spans of all of them.
        fps (`float`, *optional*, defaults to 1.0):
            Frames per second of an adaptive clip, and of one of `"random_windows"` (decision).
        family_video_processor (`dict`, *optional*):
            Settings of the family's own video processor, such as its `size`, the budget of pixels.
        multiple_choice (`str`, *optional*, defaults to `"likelihood"`):
            `"likelihood"`: the answer is the candidate's text, and the most likely one is chosen. `"letters"`: the
            answer is its letter. Either way the question lists the candidates (decision).
        prompts (`dict[str, str]`, *optional*):
            The wording, by the names `"open_ended"`, `"count"`, `"likelihood"` and `"letters"`, with `{question}`
            and in the last two `{candidates}`; other braces are text. Missing names have a default (decision).
            For `"letters"`, `"lmms_eval"` stands for EgoSchema's wording in lmms-eval, `"video_mme"` for that of
            Video-MME's authors, and `"vlmevalkit"` for Video-MME's in VLMEvalKit, the last two without subtitles.
        max_new_tokens (`int`, *optional*, defaults to 32): Longest generated answer in tokens (decision).

    Raises:
        `ValueError`: If a field is outside its range or a prompt has no place for the question.
    """

    num_clips: int = 4
    alpha: float | int = 1.0
    omega: float | int = 0.5
    affinity: Literal["knowledge", "average"] = "knowledge"
    reasoning_weights: Literal["uniform", "anchor", "siamese"] = "uniform"
    supervised_clips: Literal["anchor", "all"] = "anchor"
    frames_per_clip: int | Literal["adaptive", "family"] = "adaptive"
    min_frames: int = 5
    max_frames: int = 16
    sampling: Literal["siamese", "copies", "random_windows"] = "siamese"
    window: float | int = 0.5
    teacher_frames: int | None = None
    teacher_span: bool = False
    fps: float | int = 1.0
    family_video_processor: dict[str, Any] = dataclasses.field(default_factory=dict)
    multiple_choice: Literal["likelihood", "letters"] = "likelihood"
    prompts: dict[str, str] = dataclasses.field(default_factory=dict)
    max_new_tokens: int = 32

    def __post_init__(self):
        self.method()
        self._check_teacher()
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be 1 or more; got {self.max_new_tokens}.")
        refuse_unknown_names("The field prompts", self.prompts, list(PROMPTS))
        self.prompts = PROMPTS | {name: HARNESSES.get(prompt, prompt) for name, prompt in self.prompts.items()}
        for name, prompt in self.prompts.items():
            for place in ("{question}", "{candidates}"):
                if place in PROMPTS[name] and place not in prompt:
                    raise ValueError(f"The prompt {name!r} must say where {place} goes; got {prompt!r}.")

    def _check_teacher(self) -> None:
        """Raises a `ValueError` if there is a teacher that sees no more than the anchor clip, or no use for it."""
        of_anchor = {"adaptive": self.max_frames, "family": 0}.get(self.frames_per_clip, self.frames_per_clip)
        if self.teacher_frames is None:
            if self.teacher_span:
                raise ValueError("teacher_span needs teacher_frames, the frames of a clip that sees the span.")
        elif self.teacher_frames <= of_anchor:
            raise ValueError(f"teacher_frames must be more than a clip's {of_anchor}; got {self.teacher_frames}.")
        elif self.sampling != "siamese" or self.reasoning_weights != "siamese":
            given = f"{self.sampling!r} and {self.reasoning_weights!r}"
            raise ValueError(f"teacher_frames needs sampling and reasoning_weights 'siamese'; got {given}.")

    def of_family(self, video_processor: Any) -> "VideoLanguageSettings":
        r"""
        Applies the settings of the family's own video processor, and fills in the sampling that it stands for.

        Args:
            video_processor ([`BaseVideoProcessor`]): The family's own. `fps` makes clips adaptive, from `min_frames`
                to `max_frames` (or what `max_duration` or `num_frames` allow); else `num_frames` is their number.

        Returns:
            [`VideoLanguageSettings`]: the settings, in which `frames_per_clip` is not `"family"`.

        Raises:
            `ValueError`: If it has no such setting, or is to say how frames are sampled and does not.
        """
        name = type(video_processor).__name__
        refuse_unknown_names(name, self.family_video_processor, list(video_processor.valid_kwargs.__annotations__))
        for setting, value in self.family_video_processor.items():
            setattr(video_processor, setting, value)
        if self.frames_per_clip != "family":
            return self
        fps, number, fewest, most, longest = (getattr(video_processor, name, None) for name in FAMILY_SAMPLING)
        if fps is None and number is None:
            raise ValueError(f"The {name} has neither fps nor num_frames; set frames_per_clip, or fps and max_frames.")
        if fps is None:
            return dataclasses.replace(self, frames_per_clip=number)
        most = most or (round(fps * longest) if longest else number) or MOST_FRAMES
        return dataclasses.replace(self, frames_per_clip="adaptive", fps=fps, min_frames=fewest or 1, max_frames=most)

    def prompt(self, task: str) -> str:
        """Returns the wording of a task's questions."""
        return self.prompts[self.multiple_choice if task == "multiple_choice" else task]

    def method(self) -> SiaSamReaConfig:
        """Returns the fields of siamese reasoning as a configuration, which checks them."""
        return SiaSamReaConfig(**{name: getattr(self, name) for name in METHOD})

    @property
    def siamese_clips_trained(self) -> bool:
        """Returns whether training runs the siamese clips at all."""
        return self.method().siamese_clips_trained

    def video_sampler(self) -> SiaSamReaVideoProcessor:
        """Returns the video processor that samples the clips."""
        return SiaSamReaVideoProcessor(**{name: getattr(self, name) for name in SAMPLING})

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes the settings into a folder."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        text = json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"
        (Path(folder) / SETTINGS_NAME).write_text(text, encoding="utf-8")

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, file: str | Path | None = None, **fields
    ) -> "VideoLanguageSettings":
        r"""
        Reads the settings beside a model; a model without such a file gets the defaults.

        Args:
            name_or_path (`str` or `Path`): Folder or hub name of the model or adapter.
            file (`str` or `Path`, *optional*): A settings file, instead of the one beside the model.
            fields: Settings over those of the file; dictionaries are merged.

        Raises:
            `ValueError`: If the file does not exist or is not JSON, or a field does not exist or has a wrong value.
        """
        path = file or optional_file(name_or_path, SETTINGS_NAME)
        with explained(f"The settings {file or f'for {name_or_path}'} are wrong"):
            saved = {} if path is None else read_json(Path(path), dict)
            saved.pop("affinity_temperature", None)  # version 0.2.0 saved it
            known = [field.name for field in dataclasses.fields(cls)]
            refuse_unknown_names("VideoLanguageSettings", saved | fields, known)
            for name in ("prompts", "family_video_processor"):
                if isinstance(saved.get(name), dict) and isinstance(fields.get(name), dict):
                    fields[name] = saved[name] | fields[name]
            return cls(**(saved | fields))
