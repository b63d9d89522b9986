"""Processor class for SiaSamRea: questions and candidates beside the clips of videos."""

import os
import re
from copy import deepcopy
from threading import Lock

from transformers import BatchFeature
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin, TextKwargs, Unpack
from transformers.utils import logging
from transformers.video_utils import VideoInput

from .video_processing_siasamrea import SiaSamReaVideoProcessorKwargs, refuse_unknown_names


logger = logging.get_logger(__name__)

_locks: dict[int, Lock] = {}


def _one_at_a_time() -> Lock:
    """
    Returns this process's lock for tokenizers: a call sets truncation and padding on an object that all calls share.
    Each process has its own lock, because a fork copies locks that another thread holds and never releases.
    """
    return _locks.setdefault(os.getpid(), Lock())


class SiaSamReaProcessorKwargs(ProcessingKwargs, total=False):
    """Arguments of [`SiaSamReaProcessor`], of its tokenizer and of its video processor."""

    videos_kwargs: SiaSamReaVideoProcessorKwargs
    _defaults = {"text_kwargs": {"padding": True, "truncation": True}}


class SiaSamReaProcessor(ProcessorMixin):
    r"""
    Combines a BERT tokenizer and a [`SiaSamReaVideoProcessor`].

    Args:
        video_processor ([`SiaSamReaVideoProcessor`]): Samples, decodes and normalises.
        tokenizer ([`PreTrainedTokenizerFast`]): The text model's.
        chat_template (`str`, *optional*): Unused; part of every processor.

    Attributes:
        num_truncated (`int`): Texts so far that were longer than the limit, so that the end of a question was cut.

    Example:

    ```python
    >>> inputs = processor(videos="cat.mp4", text="what does the cat do?", return_tensors="pt")
    >>> inputs = processor(videos="cat.mp4", text="what is it?", candidates=["a cat", "a dog"], return_tensors="pt")
    ```"""

    valid_processor_kwargs = SiaSamReaProcessorKwargs

    def __init__(self, video_processor=None, tokenizer=None, chat_template=None):
        super().__init__(video_processor, tokenizer, chat_template=chat_template)
        self.num_truncated = 0
        self._process = os.getpid()

    def __call__(
        self,
        videos: VideoInput | None = None,
        text: str | list[str] | None = None,
        candidates: list[str] | list[list[str]] | None = None,
        video_index: list[int] | None = None,
        **kwargs: Unpack[SiaSamReaProcessorKwargs],
    ) -> BatchFeature:
        r"""
        Prepares videos, questions, or both.

        Args:
            videos: One video or a list, see [`SiaSamReaVideoProcessor`].
            text (`str` or `list[str]`, *optional*): The questions.
            candidates (`list[str]` or `list[list[str]]`, *optional*):
                The answers to choose from, equally many per question. Each is read as "question candidate" in one
                segment (ClipBERT). If one is longer than the limit, the question is cut in the same way for all its
                candidates, which stay whole (decision).
            video_index (`list[int]`, *optional*): The video of each question. Default: question i is about video i.
            kwargs: Arguments of the tokenizer, such as `max_length`, and of the video processor, such as `training`.

        Returns:
            [`BatchFeature`]: `pixel_values_videos` and `frame_mask`, and `input_ids`, `attention_mask` and
            `token_type_ids` of shape `(questions, length)` or `(questions, candidates, length)`, and `video_index`.

        Raises:
            `ValueError`: If there is neither video nor text, candidates do not fit the questions, a candidate alone is
                longer than the limit, or an argument is unknown.
        """
        if videos is None and text is None:
            raise ValueError("videos, text or both must be given.")
        given = kwargs.pop("common_kwargs", {}) | kwargs
        given |= given.pop("text_kwargs", {}) | given.pop("videos_kwargs", {})
        of_text, of_videos = TextKwargs.__annotations__, SiaSamReaVideoProcessorKwargs.__annotations__
        refuse_unknown_names("SiaSamReaProcessor", given, of_text | of_videos)
        for_text = SiaSamReaProcessorKwargs._defaults["text_kwargs"]
        for_text = for_text | {name: value for name, value in given.items() if name in of_text}
        for_videos = {name: value for name, value in given.items() if name in of_videos}
        data = {}
        if text is not None:
            with _one_at_a_time():
                data |= self._tokenize([text] if isinstance(text, str) else list(text), candidates, for_text)
        if videos is not None:
            data |= self.video_processor(videos, **for_videos)
        if video_index is not None:
            data["video_index"] = video_index
        return BatchFeature(data, tensor_type=for_text.get("return_tensors"))

    def _tokenize(self, questions: list[str], candidates: list | None, kwargs: dict) -> dict:
        """Returns token ids, one row per question, or per question and candidate."""
        if self._process != os.getpid():  # a fork copies the locks inside of the tokenizer, too
            self.tokenizer, self._process = deepcopy(self.tokenizer), os.getpid()
        limit = kwargs.get("max_length") or self.tokenizer.model_max_length if kwargs.get("truncation") else None
        rows = self._rows(questions, candidates, limit)
        encoded = self.tokenizer(rows, **kwargs | {"return_tensors": None})
        if candidates is None:
            return dict(encoded)
        # (questions * candidates, length) to (questions, candidates, length)
        count = len(rows) // len(questions)
        starts = range(0, len(rows), count)
        return {name: [value[start : start + count] for start in starts] for name, value in encoded.items()}

    def _rows(self, questions: list[str], candidates: list | None, limit: int | None) -> list[str]:
        """Returns the texts to tokenize: questions, or each question with each of its candidates."""
        if candidates is None:
            self._count_truncated(questions, limit)
            return questions
        if candidates and isinstance(candidates[0], str):
            candidates = [candidates]
        if len(candidates) != len(questions):
            raise ValueError(
                f"Each question needs its candidates; questions: {len(questions)}, lists: {len(candidates)}."
            )
        numbers = {len(choices) for choices in candidates}
        if len(numbers) != 1 or 0 in numbers:
            raise ValueError(f"Questions must have equally many candidates, at least one; got {sorted(numbers)}.")
        joined = [_join(question, choices) for question, choices in zip(questions, candidates)]
        longer = self._count_truncated([row for rows in joined for row in rows], limit)
        for place, rows in enumerate(joined):
            if longer.intersection(rows):
                joined[place] = self._shortened(questions[place], candidates[place], limit)
        return [row for rows in joined for row in rows]

    def _count_truncated(self, rows: list[str], limit: int | None) -> set[str]:
        """Counts the texts that are longer than the limit, and returns them."""
        if limit is None:
            return set()
        longer = [row for row, length in zip(rows, self._lengths(rows)) if length > limit]
        if longer and not self.num_truncated:
            logger.warning(f"A text of more than {limit} tokens loses the end of its question: {longer[0]!r}.")
        self.num_truncated += len(longer)
        return set(longer)

    def _lengths(self, rows: list[str]) -> list[int]:
        """Counts the tokens of each text, with the special ones."""
        return [len(ids) for ids in self.tokenizer(rows, truncation=False, verbose=False)["input_ids"]]

    def unknown_words(self, text: str) -> list[str]:
        r"""
        Finds the words that the tokenizer does not know or spells letter by letter. They make an answer uncertain.

        Args:
            text (`str`): A question.

        Returns:
            `list[str]`: The words in their order, each once.
        """

        def is_unknown(word: str) -> bool:
            pieces = self.tokenizer.tokenize(word)
            letters = sum(len(piece.removeprefix("##")) == 1 for piece in pieces)
            spelled = letters > 1 and any(piece.startswith("##") for piece in pieces)
            return spelled or self.tokenizer.unk_token in pieces

        with _one_at_a_time():
            return [word for word in dict.fromkeys(re.findall(r"\w+", text)) if is_unknown(word)]

    def _shortened(self, question: str, candidates: list[str], limit: int) -> list[str]:
        """
        Cuts the end of a question and joins it with its candidates (decision): whole candidates stay different, and
        the same question for all makes their scores comparable.
        """
        longest = max(self._lengths(candidates))
        encoded = self.tokenizer(question, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ends = [0] + [end for _, end in encoded["offset_mapping"]]  # where the question ends after so many tokens
        # One try, unless a word that is cut has more pieces than before.
        for kept in range(min(limit - longest, len(ends) - 1), -1, -1):
            rows = _join(question[: ends[kept]], candidates)
            if max(self._lengths(rows)) <= limit:
                return rows
        raise ValueError(f"A candidate of {question!r} has {longest} tokens, more than max_length, {limit}.")


def _join(question: str, candidates: list[str]) -> list[str]:
    """Returns a question with each of its candidates."""
    return [f"{question} {candidate}" for candidate in candidates]
