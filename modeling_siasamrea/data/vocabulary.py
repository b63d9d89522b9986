"""Makes vocabularies from training rows: the answers of the open-ended head, and the words of a new tokenizer."""

from collections import Counter
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from .questions import VideoQuestion


SPECIAL_TOKENS = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
# Marks stay: without them, words of Hindi, Thai or Arabic that differ would be the same, and Korean syllables lost.
NORMALIZER = normalizers.Sequence(
    [
        normalizers.NFD(),
        normalizers.Lowercase(),
        normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False),
    ]
)
# WordPiece takes a longer word for unknown, and a question in Thai is one word.
WORDS = pre_tokenizers.Sequence(
    [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Split(Regex("(?m:.{100})"), "isolated")]
)


def _commonest_first(items: Iterable[str]) -> list[str]:
    """Sorts distinct items by falling count, alphabetically where counts tie."""
    return [item for item, _ in sorted(Counter(items).items(), key=lambda pair: (-pair[1], pair[0]))]


def answer_vocabulary(questions: Iterable[VideoQuestion], size: int | None = 1000) -> list[str]:
    r"""
    Collects the answers that an open-ended head chooses from: the most frequent of the training rows. Each of several
    right answers to a question counts.

    Args:
        questions (`Iterable[VideoQuestion]`): Training rows; those of other tasks are passed over.
        size (`int`, *optional*, defaults to 1000): Answers to keep; `None` keeps all. Paper: 1000 for MSRVTT-QA.

    Returns:
        `list[str]`: the answers by falling count, ties in alphabetical order (decision).
    """
    answers = (answer for question in questions if question.task == "open_ended" for answer in question.right_answers)
    return _commonest_first(answers)[:size]


def build_tokenizer(
    questions: Iterable[VideoQuestion], size: int = 2000, max_length: int = 64
) -> PreTrainedTokenizerFast:
    r"""
    Builds a small BERT tokenizer for training from random weights: of the words of questions and candidates, and of
    every character in them, so that a new word is spelled instead of lost.

    Two texts have the same ids only if they are equal after this: canonical decomposition (NFD), lower case, and
    space around punctuation and Chinese characters. Letters and marks of every script stay. A character that the
    training rows never had is `[UNK]`, the letters around it are not.

    Args:
        questions (`Iterable[VideoQuestion]`): Training rows.
        size (`int`, *optional*, defaults to 2000): Words to keep, by falling count.
        max_length (`int`, *optional*, defaults to 64): Longest text, in tokens.

    Returns:
        `PreTrainedTokenizerFast`: WordPiece, with BERT's special tokens; it is saved with its normalisation.
    """
    texts = (text for question in questions for text in (question.question, *(question.candidates or ())))
    words = _commonest_first(
        word for text in texts for word, _ in WORDS.pre_tokenize_str(NORMALIZER.normalize_str(text))
    )
    characters = sorted({character for word in words for character in word})
    pieces = [*SPECIAL_TOKENS.values(), *characters, *(f"##{piece}" for piece in characters)]
    pieces += [word for word in words[:size] if len(word) > 1]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}

    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = NORMALIZER
    # Inside a word, WordPiece would take the whole of it for unknown.
    unknown = Regex("[^ " + "".join(f"\\x{{{ord(character):x}}}" for character in characters) + "]")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([WORDS, pre_tokenizers.Split(unknown, "isolated")])
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **SPECIAL_TOKENS,
    )
