"""
Times video-language models whose questions share a prompt, beside whole prompts as version 0.2.0 ran them.

    python examples/research/benchmark_video_language.py --threads 1

The model is a random Qwen3-VL of 18 million parameters, and a prompt has about 900 tokens, 790 of them the video's.
The table is read as that of `benchmark.py`; reading the video is in none of its rows.
"""

import re
from functools import partial

import benchmark
import torch
import transformers
from benchmark import compare
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from modeling_siasamrea.data.questions import VideoQuestion
from modeling_siasamrea.video_language import VideoLanguageProcessor, VideoLanguageSettings
from modeling_siasamrea.video_language.data import VideoLanguageDataCollator
from modeling_siasamrea.video_language.generation import answer_questions
from modeling_siasamrea.video_language.modeling import reason_over_clips
from modeling_siasamrea.video_language.settings import PROMPTS
from modeling_siasamrea.video_language.shared_prompts import run_model


SPECIAL = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
TEMPLATE = (
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n{% for part in turn.content %}"
    "{% if part.type == 'video' %}<|video_pad|>{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QUESTION = "what does the man in the red shirt do after the dog jumps ?"
ANSWERS = [
    f"{verb} {what}" for verb in ("throws", "kicks", "takes", "hides") for what in "ball stick hat box shoe".split()
]
CLIP = (torch.randint(256, (8, 3, 448, 448), dtype=torch.uint8), [float(second) for second in range(8)], 8.0)


def make_model(**settings: object) -> tuple[Qwen3VLForConditionalGeneration, VideoLanguageProcessor]:
    """Returns a random model, whose tokens are words, and its processor."""
    text = " ".join([*PROMPTS.values(), QUESTION, *ANSWERS, "user assistant 0123456789 A. B. C. D. E. seconds"])
    words = sorted({*re.findall(r"\w+|[^\w\s]", text), *"0123456789", "[UNK]"})
    tokens = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="<|pad|>", eos_token="<|im_end|>")
    tokenizer.add_tokens(SPECIAL, special_tokens=True)
    size = {"shortest_edge": 2 * 32 * 32, "longest_edge": 64 * 448 * 448}
    processor = Qwen3VLProcessor(
        transformers.Qwen2VLImageProcessor(patch_size=16, merge_size=2, temporal_patch_size=2),
        tokenizer,
        transformers.Qwen3VLVideoProcessor(size=size, cap_pixels_per_frame=True),
        chat_template=TEMPLATE,
    )
    names = {"image": "<|image_pad|>", "video": "<|video_pad|>"}
    names |= {"vision_start": "<|vision_start|>", "vision_end": "<|vision_end|>"}
    language = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 6}
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [12, 10, 10], "mrope_interleaved": True}
    vision = {"depth": 4, "hidden_size": 192, "intermediate_size": 512, "num_heads": 4, "out_hidden_size": 384}
    config = Qwen3VLConfig(
        **{f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in names.items()},
        text_config=language
        | {"num_key_value_heads": 2, "head_dim": 64, "rope_parameters": rope, "vocab_size": len(tokenizer)}
        | {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id},
        vision_config=vision
        | {"patch_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1, 2]},
    )
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(config).to(benchmark.DEVICE).eval()
    return model, VideoLanguageProcessor(processor, VideoLanguageSettings(max_new_tokens=4, **settings))


def questions_of(number: int, task: str = "open_ended", **fields: object) -> list[VideoQuestion]:
    """Returns questions about one video."""
    return [
        VideoQuestion("video", f"{QUESTION} {row}", fields.get("answer"), task, str(row), fields.get("candidates"))
        for row in range(number)
    ]


def sharing(model, processor: VideoLanguageProcessor, questions: list[VideoQuestion]) -> list:
    """Answers questions from a shared prompt."""
    asked = VideoLanguageDataCollator(processor).to_answer(questions, CLIP)["shared"]
    asked["inputs"] = asked["inputs"].to(benchmark.DEVICE)
    for name in ("prompts", "answers"):
        asked[name] = [
            [row.to(benchmark.DEVICE) for row in of_one] if name == "answers" else of_one.to(benchmark.DEVICE)
            for of_one in asked[name]
        ]
    return answer_questions(model, processor, asked)


@torch.no_grad()
def whole(model, processor: VideoLanguageProcessor, questions: list[VideoQuestion], writes: bool) -> None:
    """Answers questions from whole prompts in one batch: scores the answers, then writes if that is wanted."""
    pairs = [(processor.question_text(one), answer) for one in questions for answer in processor.answers_to_score(one)]
    if pairs:
        texts, answers = zip(*pairs)
        inputs = processor(texts, [CLIP] * len(texts), answers)
        longest = max(processor.answer_length(*pair) for pair in pairs)
        run_model(model, inputs.to(benchmark.DEVICE), longest + 1)[0].float().log_softmax(dim=-1)
    if writes:
        inputs = processor([processor.question_text(one) for one in questions], [CLIP] * len(questions))
        model.generate(**inputs.to(benchmark.DEVICE), max_new_tokens=4, do_sample=False)


def asking(repeats: int) -> list[str]:
    """Questions and candidates that share a prompt, beside whole prompts; 20 candidates beside 2."""
    model, processor = make_model()
    _, of_letters = make_model(multiple_choice="letters")

    def choice(number: int) -> list[VideoQuestion]:
        return questions_of(1, "multiple_choice", candidates=tuple(ANSWERS[:number]))

    rows = []
    for what, reader, questions, writes in (
        ("5 candidates", processor, choice(5), False),
        ("5 letters", of_letters, choice(5), False),
        ("8 questions", processor, questions_of(8), True),
        ("evaluation of a question", processor, questions_of(1, answer="throws ball"), True),
    ):
        beside = {"whole prompts": partial(whole, model, reader, questions, writes)}
        rows += compare(repeats, what, partial(sharing, model, reader, questions), beside)
    beside = {"20 candidates": partial(sharing, model, processor, choice(20))}
    return rows + compare(repeats, "2 candidates", partial(sharing, model, processor, choice(2)), beside)


def training(repeats: int) -> list[str]:
    """A training step with 2 clips and 4 questions about one video, beside a prompt for each question."""
    model, processor = make_model(num_clips=2)
    questions = questions_of(4, answer="throws ball")
    item = {"rows": (0, 1, 2, 3), "questions": questions, "clips": [CLIP, CLIP], "training": True}

    def step(share: bool) -> None:
        (part,) = VideoLanguageDataCollator(processor, share)([item])["parts"]
        clips = [clip.to(benchmark.DEVICE) for clip in part["clips"]]
        output = reason_over_clips(model, clips, part["labels"].to(benchmark.DEVICE), processor.settings)
        (output.loss + output.loss_siamese).backward()
        model.zero_grad()

    return compare(repeats, "the video read once", partial(step, True), {"whole prompts": partial(step, False)})


if __name__ == "__main__":
    benchmark.PARTS = {"asking": asking, "training": training}
    benchmark.main()
