"""Answers of a video-language model: generated text and counts, and probabilities of candidates."""

import re

import torch
from transformers import BatchFeature, GenerationConfig, PreTrainedModel

from .modeling import answer_log_likelihoods
from .processing import VideoLanguageProcessor


NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()


def normalize_answer(text: str) -> str:
    """
    A generated answer as the benchmarks write theirs: one line in lower case, without a full stop at its end.

    Args:
        text (`str`): What was generated.

    Returns:
        `str`: its first line that is not empty (decision).
    """
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return lines[0].lower().removesuffix(".").rstrip() if lines else ""


def parse_count(text: str) -> float | None:
    """The first number of a generated answer, in digits or a word up to twenty; `None` where there is none."""
    words = "|".join(sorted(NUMBER_WORDS, key=len, reverse=True))
    found = re.search(rf"(-?\d+(?:\.\d+)?)|\b({words})\b", text.lower())
    if found is None:
        return None
    return float(found[1]) if found[1] else float(NUMBER_WORDS.index(found[2]))


@torch.no_grad()
def generate_answers(
    model: PreTrainedModel, processor: VideoLanguageProcessor, prompts: BatchFeature
) -> list[tuple[str, float]]:
    r"""
    The model's own answers: greedy, so that the same question has the same answer again.

    Args:
        model ([`PreTrainedModel`]): The model, or a `PeftModel`; not wrapped by DDP.
        processor ([`VideoLanguageProcessor`]): Decodes, and says how long an answer may be.
        prompts ([`BatchFeature`]): The model's inputs.

    Returns:
        `list[tuple[str, float]]`: of each prompt the text and its probability, the product over its tokens.
    """
    greedy = GenerationConfig(
        max_new_tokens=processor.settings.max_new_tokens,
        do_sample=False,
        num_beams=1,
        temperature=1.0,
        top_k=50,
        top_p=1.0,
        repetition_penalty=1.0,  # Qwen2.5-VL comes with another
        eos_token_id=_end_tokens(model, processor),
        pad_token_id=processor.tokenizer.pad_token_id,
    )
    output = model.generate(
        **prompts, generation_config=greedy, return_dict_in_generate=True, output_logits=True, use_cache=True
    )
    answers = output.sequences[:, -len(output.logits) :]  # (prompts, new tokens)
    log_p = torch.stack(output.logits, dim=1).float().log_softmax(dim=-1).gather(2, answers[..., None]).squeeze(2)
    # A row that ended earlier than others goes on with padding, which is no part of its answer.
    ended = torch.isin(answers, torch.tensor(greedy.eos_token_id, device=answers.device))
    of_answer = (ended.cumsum(dim=1) - ended.long()) == 0
    scores = (log_p * of_answer).sum(dim=1).exp()
    texts = processor.tokenizer.batch_decode(
        [row[kept] for row, kept in zip(answers, of_answer)], skip_special_tokens=True
    )
    return list(zip(texts, scores.tolist()))


@torch.no_grad()
def candidate_probabilities(model: PreTrainedModel, inputs: BatchFeature, answer_ids: torch.Tensor) -> torch.Tensor:
    r"""
    How probable each candidate is among the candidates of a question.

    Args:
        model ([`PreTrainedModel`]): The model, or a `PeftModel`; not wrapped by DDP.
        inputs ([`BatchFeature`]): The prompt with each candidate as the answer.
        answer_ids (`torch.LongTensor` of shape `(candidates, longest answer)`): The candidates' tokens.

    Returns:
        `torch.Tensor` of shape `(candidates,)`: the likelihoods of the whole answers, with a sum of 1.
    """
    scores, _ = answer_log_likelihoods(model, model.get_output_embeddings(), inputs, answer_ids)
    return scores.softmax(dim=0)


def _end_tokens(model: PreTrainedModel, processor: VideoLanguageProcessor) -> list[int]:
    """Tokens that end an answer: those the model comes with and the tokenizer's, with which answers were trained."""
    of_model = model.generation_config.eos_token_id
    of_model = [] if of_model is None else of_model if isinstance(of_model, list) else [of_model]
    return sorted({*of_model, processor.tokenizer.eos_token_id})


__all__ = ["candidate_probabilities", "generate_answers", "normalize_answer", "parse_count"]
