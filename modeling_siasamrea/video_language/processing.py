"""Questions about clips as a video-language model reads them: chat template, frames with their times, answers."""

import json
import string
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoProcessor, BatchFeature, ProcessorMixin
from transformers.utils import logging

from ..data.questions import VideoQuestion
from .settings import VideoLanguageSettings, optional_file


logger = logging.get_logger(__name__)

TICKS = 1000  # a second; frames are numbered by their time, because families write index / fps into the prompt


class VideoLanguageProcessor:
    r"""
    A family's own processor, and how its questions are put: sampling and wording.

    The family's processor is used as it is. Its chat template makes the prompt, and its video processor gets frames
    that are sampled already, with their times.

    Args:
        processor ([`ProcessorMixin`]): The processor of a model of `AutoModelForImageTextToText` that takes videos.
        settings ([`VideoLanguageSettings`]): Sampling, method and wording.

    Attributes:
        video_processor ([`SiaSamReaVideoProcessor`]): Samples the clips.
        num_truncated (`int`): Texts that were cut: none ever is.

    Raises:
        `ValueError`: If the processor takes no videos.
    """

    num_truncated = 0

    def __init__(self, processor: ProcessorMixin, settings: VideoLanguageSettings):
        if getattr(processor, "video_processor", None) is None:
            raise ValueError(
                f"A {type(processor).__name__} takes no videos. Choose a model whose processor has a video processor, "
                "such as Qwen3-VL, Qwen2.5-VL, SmolVLM2, LLaVA-OneVision or InternVL."
            )
        self.processor = processor
        self.settings = settings
        self.video_processor = settings.video_sampler()
        added = processor.tokenizer.added_tokens_decoder.values()
        self._special_tokens = [token.content for token in added if token.special]
        # Qwen3-VL asks to be told whether a short clip's frames may be as large as a long video's budget allows.
        if getattr(processor.video_processor, "cap_pixels_per_frame", False) is None:
            processor.video_processor.cap_pixels_per_frame = True

    @property
    def tokenizer(self):
        """The family's tokenizer."""
        return self.processor.tokenizer

    def question_text(self, question: VideoQuestion) -> str:
        """What is asked: the question, its candidates, and the form of the answer."""
        listed = list(question.candidates or ())
        if self.settings.multiple_choice == "letters":
            listed = [f"{letter}. {text}" for letter, text in zip(self.candidate_texts(question), listed)]
        reserved = [
            token for token in self._special_tokens if any(token in part for part in (question.question, *listed))
        ]
        if reserved:
            raise ValueError(
                f"Question {question.question_id} contains {reserved[0]!r}, which in this model's prompts stands for "
                "something else than text, such as a video. Write it otherwise."
            )
        return self.settings.prompt(question.task).format(question=question.question, candidates="\n".join(listed))

    def candidate_texts(self, question: VideoQuestion) -> list[str]:
        """The answers that a question may have: its candidates or their letters; none if it is not multiple choice."""
        candidates = list(question.candidates or ())
        if self.settings.multiple_choice == "likelihood":
            return candidates
        if len(candidates) > len(string.ascii_uppercase):
            raise ValueError(
                f"Question {question.question_id} has {len(candidates)} candidates, and there are letters for "
                f"{len(string.ascii_uppercase)}. Use multiple_choice='likelihood'."
            )
        return list(string.ascii_uppercase[: len(candidates)])

    def answer_text(self, question: VideoQuestion) -> str:
        """The right answer as the model is to write it; a whole count without decimals."""
        if question.task == "multiple_choice":
            return self.candidate_texts(question)[question.answer]
        return f"{question.answer:g}" if question.task == "count" else question.answer

    def prompt(self, text: str, answer: str | None = None) -> str:
        """The chat with a video and a question, up to where the answer begins, or with the answer."""
        chat = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": text}]}]
        if answer is not None:
            chat.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        # A model that thinks first would need hundreds of tokens for an answer of one word.
        thinks = "enable_thinking" in str(self.processor.chat_template)
        return self.processor.apply_chat_template(
            chat,
            add_generation_prompt=answer is None,
            tokenize=False,
            **({"enable_thinking": False} if thinks else {}),
        )

    def prompt_and_answer(self, text: str, answer: str) -> tuple[str, str]:
        """The prompt, and the answer as the template writes it, to the token that ends the turn."""
        prompt, chat = self.prompt(text), self.prompt(text, answer)
        written = chat.removeprefix(prompt).rstrip() if chat.startswith(prompt) else answer
        end = self.tokenizer.eos_token
        return prompt, written if written.endswith(end) else written + end

    def __call__(
        self,
        texts: Sequence[str],
        clips: Sequence[tuple[torch.Tensor, Sequence[float], float]],
        answers: Sequence[str] | None = None,
    ) -> BatchFeature:
        r"""
        The model's inputs for one clip a question, padded at the left.

        Args:
            texts (`Sequence[str]`): What is asked, see [`~VideoLanguageProcessor.question_text`].
            clips (`Sequence` of tuples):
                For each question the clip's frames `(frames, 3, height, width)` as uint8, the time of each frame and
                the duration of the video, in seconds. All clips have as many frames: some families batch no others.
            answers (`Sequence[str]`, *optional*): The answers, which follow the prompts for teacher forcing.

        Returns:
            [`BatchFeature`]: what the family's model takes.
        """
        chats = [self.prompt(text) for text in texts]
        if answers is not None:
            chats = ["".join(self.prompt_and_answer(text, answer)) for text, answer in zip(texts, answers)]
        videos, metadata = zip(*(self._video(*clip) for clip in clips))
        return self.processor(
            text=chats,
            videos=[[video] for video in videos],
            padding=True,
            padding_side="left",
            return_tensors="pt",
            videos_kwargs={"do_sample_frames": False, "video_metadata": [[of_video] for of_video in metadata]},
        )

    def _video(self, frames: torch.Tensor, seconds: Sequence[float], duration: float) -> tuple[torch.Tensor, dict]:
        """A clip's frames and metadata; a clip shorter than one temporal patch repeats its last frame."""
        missing = getattr(self.processor.video_processor, "temporal_patch_size", 1) - len(frames)
        if missing > 0:
            frames = torch.cat([frames, frames[-1:].expand(missing, -1, -1, -1)])
            seconds = [*seconds, *[seconds[-1]] * missing]
        return frames, {
            "total_num_frames": round(duration * TICKS),
            "fps": float(TICKS),
            "duration": duration,
            "frames_indices": [round(second * TICKS) for second in seconds],
        }

    def answer_ids(self, inputs: BatchFeature, texts: Sequence[str], answers: Sequence[str]) -> torch.Tensor:
        r"""
        The tokens of each answer, in the inputs that end with them.

        Args:
            inputs ([`BatchFeature`]): The inputs of [`~VideoLanguageProcessor.__call__`] with these answers.
            texts (`Sequence[str]`): What is asked.
            answers (`Sequence[str]`): The answers.

        Returns:
            `torch.LongTensor` of shape `(questions, longest answer)`: aligned at the right, -100 before an answer.
        """
        lengths = torch.tensor([self._answer_length(*chat) for chat in zip(texts, answers)])
        longest = int(lengths.max())
        ids = inputs["input_ids"][:, -longest:]
        return ids.masked_fill(torch.arange(longest) < longest - lengths[:, None], -100)

    def _answer_length(self, text: str, answer: str) -> int:
        """Tokens that follow those of the prompt."""
        prompt, written = self.prompt_and_answer(text, answer)
        asked, whole = (self.tokenizer(chat)["input_ids"] for chat in (prompt, prompt + written))
        shared = next((place for place, pair in enumerate(zip(asked, whole)) if pair[0] != pair[1]), len(asked))
        return len(whole) - shared

    def save_pretrained(self, folder: str | Path, **kwargs) -> None:
        """Saves the family's processor and the settings."""
        self.processor.save_pretrained(folder, **kwargs)
        self.settings.save_pretrained(folder)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **fields) -> "VideoLanguageProcessor":
        r"""
        Loads the processor of a model, adapter or checkpoint, and the settings saved beside it.

        Args:
            name_or_path (`str` or `Path`): Folder or hub name.
            fields: Fields of [`VideoLanguageSettings`], over those saved.
        """
        settings = VideoLanguageSettings.from_pretrained(name_or_path, **fields)
        return cls(AutoProcessor.from_pretrained(processor_source(name_or_path)), settings)


def processor_source(name_or_path: str | Path) -> str:
    """Where a processor lies: beside the model, or, for an adapter that has none, beside the model that it is over."""
    adapter = optional_file(name_or_path, "adapter_config.json")
    own = [optional_file(name_or_path, name) for name in ("processor_config.json", "preprocessor_config.json")]
    if adapter is None or any(own):
        return str(name_or_path)
    return json.loads(Path(adapter).read_text(encoding="utf-8"))["base_model_name_or_path"]


__all__ = ["VideoLanguageProcessor", "processor_source"]
