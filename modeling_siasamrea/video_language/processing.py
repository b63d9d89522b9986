"""Writes questions about clips for a video-language model: chat template, frames with their times, answers."""

import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2.meta
import torch
from transformers import AutoProcessor, BatchFeature, ProcessorMixin
from transformers.utils import logging

from ..adapter_siasamrea import adapter_source, base_of
from ..data.questions import VideoQuestion
from ..training.start import explained
from .settings import VideoLanguageSettings, optional_file


logger = logging.get_logger(__name__)

# Frames as uint8, the time of each, and the length of the span that they were sampled from.
Clip = tuple[torch.Tensor, list[float], float]
TICKS = 1000  # per second; frames are numbered by their time, because families write index / fps into the prompt
THOUGHT = re.compile(r"[<◁\[]\|?(/?)(?:think|thinking|thought|reasoning)\|?[>▷\]]", re.IGNORECASE)
SWITCH = re.compile(r"(?:enable_|use_)?(?:think|thinking|reasoning)")  # of a template, to turn thoughts off
PROBE = "Answer"  # a question and an answer that show how the template writes them


class VideoLanguageProcessor:
    r"""
    Adds sampling and wording to the processor of a model family. Its chat template writes the prompt, and its video
    processor gets frames that are already sampled, with their times.

    Args:
        processor ([`ProcessorMixin`]): The processor of a model of `AutoModelForImageTextToText` that takes videos.
        settings ([`VideoLanguageSettings`]): Sampling, method and wording.

    Attributes:
        settings ([`VideoLanguageSettings`]): The settings, with the family's own sampling if they ask for it.
        video_processor ([`SiaSamReaVideoProcessor`]): Samples the clips.
        end (`str`): Text that the template writes after an answer, such as `"<|im_end|>"`.
        num_truncated (`int`): Number of texts that were cut, always 0.

    Raises:
        `ValueError`: If the processor takes no videos, or its chat template or tokenizer cannot be used for answers.
    """

    num_truncated = 0

    def __init__(self, processor: ProcessorMixin, settings: VideoLanguageSettings):
        if getattr(processor, "video_processor", None) is None:
            name = type(processor).__name__
            raise ValueError(f"A {name} takes no videos; choose a model such as Qwen3-VL, SmolVLM2 or InternVL.")
        self.processor = processor
        with explained("The settings do not fit the model"):
            self.settings = settings.of_family(processor.video_processor)
            self.video_processor = self.settings.video_sampler()
        added = self.tokenizer.added_tokens_decoder.values()
        self._special_tokens = [token.content for token in added if token.special]
        if self.tokenizer.eos_token is None:
            raise ValueError(f"The tokenizer of this {type(processor).__name__} has no eos_token to end an answer.")
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        # Qwen3-VL asks to be told whether a short clip's frames may be as large as a long video's budget allows.
        if getattr(processor.video_processor, "cap_pixels_per_frame", False) is None:
            processor.video_processor.cap_pixels_per_frame = True
        self._learn_template()

    @property
    def tokenizer(self):
        """The family's tokenizer."""
        return self.processor.tokenizer

    # What is asked and answered

    def question_text(self, question: VideoQuestion) -> str:
        """Returns the text of the question with its candidates and the request for the form of the answer."""
        listed = list(question.candidates or ())
        if self.settings.multiple_choice == "letters":
            listed = [f"{letter}. {text}" for letter, text in zip(self.candidate_texts(question), listed)]
        self._refuse_special_tokens(question, question.question, *listed)
        parts = {"{question}": question.question, "{candidates}": "\n".join(listed)}
        prompt = self.settings.prompt(question.task)
        return re.sub(r"\{question\}|\{candidates\}", lambda place: parts[place[0]], prompt)

    def candidate_texts(self, question: VideoQuestion) -> list[str]:
        """Returns the possible answers: the candidates or their letters; none if it is not multiple choice."""
        candidates = list(question.candidates or ())
        if self.settings.multiple_choice == "likelihood":
            return candidates
        if len(candidates) > len(string.ascii_uppercase):
            name = question.question_id
            raise ValueError(f"Question {name} has {len(candidates)} candidates, and there are letters for 26.")
        return list(string.ascii_uppercase[: len(candidates)])

    def answer_text(self, question: VideoQuestion) -> str:
        """Returns the right answer as the model should write it; a whole count has no decimals."""
        if question.task == "multiple_choice":
            return self.candidate_texts(question)[question.answer]
        if question.task == "count":
            return f"{question.answer:g}"
        self._refuse_special_tokens(question, question.answer)
        return question.answer

    def answers_to_score(self, question: VideoQuestion) -> list[str]:
        """Returns the answers that evaluation scores: all candidates, or the right answer if it is known."""
        if question.task == "multiple_choice":
            return self.candidate_texts(question)
        return [] if question.answer is None else [self.answer_text(question)]

    def _refuse_special_tokens(self, question: VideoQuestion, *texts: str) -> None:
        for token in self._special_tokens:
            if any(token in text for text in texts):
                name = question.question_id
                raise ValueError(f"Question {name} contains {token!r}, which is no text in this model's prompts.")

    def check(self, questions: Sequence[VideoQuestion]) -> None:
        """Raises a `ValueError` for a row that cannot be asked, and warns of answers longer than `max_new_tokens`."""
        limit, long = self.settings.max_new_tokens, []
        for question in questions:
            self.question_text(question)
            if question.task != "multiple_choice" and question.answer is not None:
                answer = self.answer_text(question) + self.end
                if len(answer.encode()) > limit and len(self.tokenizer.tokenize(answer)) > limit:
                    long.append(question.question_id)
        if long:
            logger.warning_once(
                f"Answers longer than max_new_tokens={limit}, which can never be written whole: {len(long)} of "
                f"{len(questions)}, first that of question {long[0]}."
            )

    # How it is written

    def _learn_template(self) -> None:
        """Finds out how the chat template writes an answered turn: as the prompt, the answer and its end."""
        name = f"The chat template of this {type(self.processor).__name__}"
        self._switches: dict[str, bool] = {}
        try:
            # A model that thinks first would need hundreds of tokens for an answer of one word.
            self._switches = dict.fromkeys(_switches(self.processor.chat_template), False)
            prompt, of_two_videos = self._render(PROBE), self._render(PROBE, videos=2)
        except Exception as error:  # what a template or its absence raises is the family's own
            raise ValueError(f"{name} cannot write a question about a video: {error}") from error
        if prompt == of_two_videos:
            raise ValueError(f"{name} takes no video; choose a model whose template does.")
        opened = THOUGHT.findall(prompt)[-1:] == [""]  # the last mark of a thought has no slash
        if opened:
            logger.warning_once(
                f"{name} opens a thought, and max_new_tokens={self.settings.max_new_tokens} allows an answer only: "
                "the thought is closed in the prompt where the template closes it, and else may take all tokens."
            )
        for content in ([{"type": "text", "text": PROBE}], PROBE):
            head, _, end = self._render(PROBE, content).rpartition(PROBE)
            end = end.strip()
            if end and not end.startswith((self.tokenizer.eos_token, *self._special_tokens)):
                continue  # the template wrote something else than the answer, such as the list's representation
            between = head.removeprefix(prompt)
            if head.startswith(prompt) and not between.strip():
                self._lead, answered = between, False  # blanks are the answer's, as its first token has them
            elif head.startswith(prompt) and THOUGHT.search(between):
                self._lead, answered = "", True  # what closes a thought is the prompt's
            elif prompt.startswith(head.rstrip()):
                self._lead, answered = "", opened  # the prompt goes on where an answered turn does not
            else:
                continue
            self._answered = content if answered else None
            self.end = end or self.tokenizer.eos_token
            return
        raise ValueError(f"{name} writes no turn of an assistant in which the answer can be found.")

    def _render(self, text: str, answer: Any = None, videos: int = 1) -> str:
        chat = [{"role": "user", "content": [{"type": "video"}] * videos + [{"type": "text", "text": text}]}]
        if answer is not None:
            chat.append({"role": "assistant", "content": answer})
        return self.processor.apply_chat_template(
            chat, add_generation_prompt=answer is None, tokenize=False, **self._switches
        )

    def chat(self, text: str, answer: str | None = None) -> str:
        """Returns the chat with a video and a question, to where the answer begins, or with an answer to its end."""
        if self._answered is None:
            prompt = self._render(text)
        else:
            prompt = self._render(text, self._answered).rpartition(PROBE)[0]  # without an open thought
        return prompt if answer is None else prompt + self._lead + answer + self.end

    def token_ids(self, chat: str) -> list[int]:
        """Returns the tokens of a chat, whose template may have written the first one already."""
        return self.tokenizer(chat, add_special_tokens=self._adds_special_tokens(chat))["input_ids"]

    def _adds_special_tokens(self, chat: str) -> bool:
        return self.tokenizer.bos_token is None or not chat.startswith(self.tokenizer.bos_token)

    def answer_length(self, text: str, answer: str) -> int:
        """Returns the number of tokens that follow those of the prompt in [`~VideoLanguageProcessor.__call__`]."""
        asked, whole = self.token_ids(self.chat(text)), self.token_ids(self.chat(text, answer))
        return len(whole) - _common_length([asked, whole])

    # The model's inputs

    def __call__(
        self, texts: Sequence[str], clips: Sequence[Clip], answers: Sequence[str] | None = None
    ) -> BatchFeature:
        r"""
        Makes the model's inputs for one clip per question, padded at the left.

        Args:
            texts (`Sequence[str]`): What is asked, see [`~VideoLanguageProcessor.question_text`].
            clips (`Sequence` of tuples):
                For each question the clip's frames `(frames, 3, height, width)` as uint8, the time of each frame and
                the length of the span that they were sampled from, in seconds. All clips have as many frames, because
                some families batch no others.
            answers (`Sequence[str]`, *optional*): The answers, which follow the prompts for teacher forcing.

        Returns:
            [`BatchFeature`]: what the family's model takes.
        """
        return self._inputs([self.chat(*pair) for pair in zip(texts, answers or [None] * len(texts))], clips)

    def _inputs(self, chats: Sequence[str], clips: Sequence[Clip]) -> BatchFeature:
        videos, metadata = zip(*(self._video(*clip) for clip in clips))
        of_videos = {"video_metadata": [[of_video] for of_video in metadata], "return_metadata": True}
        inputs = self.processor(
            text=list(chats),
            videos=[[video] for video in videos],
            padding=True,
            padding_side="left",
            add_special_tokens=self._adds_special_tokens(chats[0]),
            return_mm_token_type_ids=True,  # some families fail without these and without metadata
            return_tensors="pt",
            videos_kwargs={"do_sample_frames": False, **of_videos},
        )
        inputs.pop("video_metadata", None)
        return inputs

    def _video(self, frames: torch.Tensor, seconds: Sequence[float], duration: float) -> tuple[torch.Tensor, dict]:
        """Returns a clip's frames and metadata; a clip shorter than one temporal patch repeats its last frame."""
        missing = getattr(self.processor.video_processor, "temporal_patch_size", 1) - len(frames)
        if missing > 0:
            frames = torch.cat([frames, frames[-1:].expand(missing, -1, -1, -1)])
            seconds = [*seconds, *[seconds[-1]] * missing]
        return frames.clone(), {  # Ernie 4.5 draws on the frames that it is given
            "total_num_frames": round(duration * TICKS),
            "fps": float(TICKS),
            "duration": duration,
            "frames_indices": [round(second * TICKS) for second in seconds],
        }

    def check_size(self, frames: torch.Tensor) -> None:
        """Lets the family's video processor resize frames; it raises its own error for a shape that it refuses."""
        video, metadata = self._video(frames, [0.0] * len(frames), 1.0)
        self.processor.video_processor([video], do_sample_frames=False, video_metadata=[metadata])

    def share(self, clip: Clip, texts: Sequence[str], answers: Sequence[Sequence[str]]) -> dict[str, Any]:
        r"""
        Splits prompts and answers about one clip into their common beginning, which has the video, and the rest.

        Args:
            clip (`tuple`): The clip, as for [`~VideoLanguageProcessor.__call__`].
            texts (`Sequence[str]`): What is asked.
            answers (`Sequence[Sequence[str]]`): The answers to each that are to be scored.

        Returns:
            `dict`: `inputs` ([`BatchFeature`]), the model's for the common beginning; of each question `prompts`, the
            tokens of the prompt that follow it, and `answers`, for each answer those of prompt and answer, with their
            `lengths`, the number of tokens of the answer alone.
        """
        chats = [[self.chat(text, answer) for answer in (None, *scored)] for text, scored in zip(texts, answers)]
        inputs = self._inputs([chats[0][0]], [clip])
        whole = inputs["input_ids"][0].tolist()
        ids = [[self.token_ids(chat) for chat in of_question] for of_question in chats]
        start = _start_of_rest(ids)
        if whole[start - len(ids[0][0]) :] != ids[0][0][start:]:  # the processor changes more than the video's place
            ids = [[self._inputs([chat], [clip])["input_ids"][0].tolist() for chat in part] for part in chats]
            start = _start_of_rest(ids)
        for name, value in inputs.items():
            if isinstance(value, torch.Tensor) and value.shape == (1, len(whole)):
                inputs[name] = value[:, : start - len(ids[0][0])]
        tails = [[torch.tensor(chat[start:]) for chat in of_question] for of_question in ids]
        return {
            "inputs": inputs,
            "prompts": [prompt for prompt, *_ in tails],
            "answers": [rows for _, *rows in tails],
            "lengths": [[len(chat) - _common_length([prompt, chat]) for chat in rows] for prompt, *rows in ids],
        }

    # Files

    def save_pretrained(self, folder: str | Path, **kwargs) -> None:
        """Saves the family's processor and the settings."""
        self.processor.save_pretrained(folder, **kwargs)
        self.settings.save_pretrained(folder)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, base_model: str | None = None, settings_file: str | Path | None = None, **fields
    ) -> "VideoLanguageProcessor":
        r"""
        Loads the processor of a model, adapter or checkpoint, and the settings saved beside it.

        Args:
            name_or_path (`str` or `Path`): Folder or hub name.
            base_model (`str`, *optional*): Base model of an adapter, instead of the one that it names.
            settings_file (`str` or `Path`, *optional*): Settings, instead of those beside the model.
            fields: Fields of [`VideoLanguageSettings`], over those saved.
        """
        settings = VideoLanguageSettings.from_pretrained(name_or_path, settings_file, **fields)
        own = any(optional_file(name_or_path, name) for name in ("processor_config.json", "preprocessor_config.json"))
        source = name_or_path if own or adapter_source(name_or_path) is None else base_of(name_or_path, base_model)
        return cls(AutoProcessor.from_pretrained(str(source)), settings)


def _common_length(ids: list[list[int]]) -> int:
    """Returns the number of tokens that all begin with."""
    return next((place for place, pair in enumerate(zip(*ids)) if len(set(pair)) > 1), min(map(len, ids)))


def _start_of_rest(ids: list[list[list[int]]]) -> int:
    """Returns where the chats of questions begin to differ; one token at least is left of each."""
    every = [chat for of_question in ids for chat in of_question]
    return min(_common_length(every), min(map(len, every)) - 1)


def _switches(template: str | dict[str, str] | None) -> list[str]:
    """Returns the variables of a chat template that turn thoughts on or off."""
    template = template.get("default", "") if isinstance(template, dict) else template or ""
    without_masks = re.sub(r"\{%-?\s*(?:end)?generation\s*-?%\}", "", template)  # a tag of Transformers
    parsed = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(without_masks)
    return sorted(name for name in jinja2.meta.find_undeclared_variables(parsed) if SWITCH.fullmatch(name))
