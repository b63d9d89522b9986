"""Tiny random video-language models of some families, with their processors, made without a hub."""

from collections.abc import Callable

import pytest
import torch
import transformers as T
from packaging.version import Version
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast, ProcessorMixin


TURN = ["<|im_start|>", "<|im_end|>"]
TEMPLATE = """{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{% for part in message['content'] -%}
{%- if part['type'] == 'video' -%}VIDEO{%- else -%}{{ part['text'] }}{%- endif -%}
{%- endfor -%}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}"""
LANGUAGE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
LANGUAGE |= {"num_key_value_heads": 2, "max_position_embeddings": 4096}
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def byte_tokenizer(special: list[str], eos: str = "<|im_end|>", **named: str) -> PreTrainedTokenizerFast:
    """A token for each byte and for each special text."""
    vocabulary = {byte: index for index, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    model = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="<|endoftext|>", eos_token=eos, extra_special_tokens=named or None
    )
    tokenizer.add_tokens(special, special_tokens=True)
    return tokenizer


def language(tokenizer: PreTrainedTokenizerFast, **fields) -> dict:
    tokens = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    return LANGUAGE | {"vocab_size": len(tokenizer)} | tokens | fields


def smolvlm() -> tuple[PreTrainedModel, ProcessorMixin]:
    special = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", "<video>", *TURN]
    tokenizer = byte_tokenizer(special, eos="<end_of_utterance>")
    edges = {"size": {"longest_edge": 32}, "max_image_size": {"longest_edge": 32}}
    processor = T.SmolVLMProcessor(
        T.SmolVLMImageProcessor(do_image_splitting=False, **edges),
        tokenizer,
        T.SmolVLMVideoProcessor(num_frames=8, fps=1, **edges),
        image_seq_len=4,
    )
    config = T.SmolVLMConfig(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        vision_config=VISION | {"image_size": 32, "patch_size": 8},
        text_config=language(tokenizer, model_type="llama"),
    )
    return T.SmolVLMForConditionalGeneration(config), processor


def qwen(patch: int, vision: dict, video_token: str, classes: tuple, rope: dict, head: dict):
    """What the two Qwen families share."""
    special = ["<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", *TURN]
    tokenizer = byte_tokenizer(special)
    processor_class, video_processor, config_class, model_class = classes
    processor = processor_class(
        T.Qwen2VLImageProcessor(patch_size=patch, merge_size=2, temporal_patch_size=2),
        tokenizer,
        video_processor,
        chat_template=TEMPLATE.replace("VIDEO", video_token),
    )
    names = {"image": "<|image_pad|>", "video": "<|video_pad|>"}
    names |= {"vision_start": "<|vision_start|>", "vision_end": "<|vision_end|>"}
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]} | rope
    shape = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64}
    config = config_class(
        **{f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in names.items()},
        text_config=language(tokenizer, rope_parameters=rope, **head),
        vision_config=shape | {"patch_size": patch} | vision,
    )
    return model_class(config), processor


def qwen3_vl() -> tuple[PreTrainedModel, ProcessorMixin]:
    size = {"shortest_edge": 2 * 32 * 32, "longest_edge": 16 * 64 * 64}
    video_processor = T.Qwen3VLVideoProcessor(size=size, cap_pixels_per_frame=True)
    classes = (T.Qwen3VLProcessor, video_processor, T.Qwen3VLConfig, T.Qwen3VLForConditionalGeneration)
    vision = {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
    return qwen(16, vision, "<|video_pad|>", classes, {"mrope_interleaved": True}, {"head_dim": 16})


def qwen2_5_vl() -> tuple[PreTrainedModel, ProcessorMixin]:
    video_processor = T.Qwen2VLVideoProcessor(size={"shortest_edge": 28 * 28, "longest_edge": 56 * 56})
    classes = (T.Qwen2_5_VLProcessor, video_processor, T.Qwen2_5_VLConfig, T.Qwen2_5_VLForConditionalGeneration)
    vision = {"fullatt_block_indexes": [1], "window_size": 56}
    return qwen(14, vision, "<|vision_start|><|video_pad|><|vision_end|>", classes, {}, {})


def llava_onevision() -> tuple[PreTrainedModel, ProcessorMixin]:
    tokenizer = byte_tokenizer(["<image>", "<video>", *TURN])
    size = {"height": 32, "width": 32}
    processor = T.LlavaOnevisionProcessor(
        T.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=[[32, 32]]),
        tokenizer,
        T.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=TEMPLATE.replace("VIDEO", "<video>"),
    )
    vision = {"model_type": "siglip_vision_model", "image_size": 32, "patch_size": 8, "vision_use_head": False}
    config = T.LlavaOnevisionConfig(
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=[[32, 32]],
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        vision_config=VISION | vision,
        text_config=language(tokenizer, model_type="qwen2"),
    )
    return T.LlavaOnevisionForConditionalGeneration(config), processor


def internvl() -> tuple[PreTrainedModel, ProcessorMixin]:
    tokens = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    tokenizer = byte_tokenizer([*tokens.values(), "<video>", *TURN], **tokens, video_token="<video>")
    size = {"height": 32, "width": 32}
    processor = T.InternVLProcessor(
        T.GotOcr2ImageProcessor(size=size, crop_to_patches=False),
        tokenizer,
        T.InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=TEMPLATE.replace("VIDEO", "<video>\n"),
    )
    vision = {"model_type": "internvl_vision", "image_size": [32, 32], "patch_size": [8, 8]}
    config = T.InternVLConfig(
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        downsample_ratio=0.5,
        vision_config=VISION | vision,
        text_config=language(tokenizer, model_type="qwen2"),
    )
    return T.InternVLForConditionalGeneration(config), processor


def qwen3_5() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Linear attention, whose state cannot be copied with gradients."""
    size = {"shortest_edge": 2 * 32 * 32, "longest_edge": 16 * 64 * 64}
    video_processor = T.Qwen3VLVideoProcessor(size=size, cap_pixels_per_frame=True)
    classes = (T.Qwen3VLProcessor, video_processor, T.Qwen3_5Config, T.Qwen3_5ForConditionalGeneration)
    rope = {"mrope_interleaved": True, "partial_rotary_factor": 1.0}
    linear = {"linear_key_head_dim": 16, "linear_value_head_dim": 16, "linear_num_key_heads": 2}
    head = {"head_dim": 16, "layer_types": ["linear_attention", "full_attention"], "linear_num_value_heads": 4}
    video = "<|vision_start|><|video_pad|><|vision_end|>"
    return qwen(16, {"num_position_embeddings": 64}, video, classes, rope, head | linear)


def cosmos3_edge() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Wants metadata and the types of tokens, which its processor has to be asked for."""
    tokenizer = byte_tokenizer(["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", *TURN])
    processor = T.Cosmos3EdgeProcessor(
        T.Cosmos3EdgeImageProcessor(),
        tokenizer,
        T.Cosmos3EdgeVideoProcessor(),
        chat_template=TEMPLATE.replace("VIDEO", "<|vision_start|><|video_pad|><|vision_end|>"),
    )
    names = {"image": "<|image_pad|>", "video": "<|video_pad|>"}
    names |= {"vision_start": "<|vision_start|>", "vision_end": "<|vision_end|>"}
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]}
    config = T.Cosmos3EdgeConfig(
        **{f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in names.items()},
        projector_hidden_size=48,
        text_config=language(tokenizer, head_dim=16, rope_parameters=rope),
        vision_config=VISION,
    )
    return T.Cosmos3EdgeForConditionalGeneration(config), processor


def video_llama_3() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Takes no `logits_to_keep`."""
    tokenizer = byte_tokenizer(["<|image_pad|>", "<|video_pad|>", *TURN])
    processor = T.VideoLlama3Processor(
        T.VideoLlama3ImageProcessor(),
        tokenizer,
        T.VideoLlama3VideoProcessor(size={"shortest_edge": 28 * 28, "longest_edge": 16 * 56 * 56}),
        chat_template=TEMPLATE.replace("VIDEO", "<|video_pad|>"),
    )
    config = T.VideoLlama3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_config=VISION | {"patch_size": 14},
        text_config=language(tokenizer, model_type="qwen2"),
    )
    return T.VideoLlama3ForConditionalGeneration(config), processor


def gemma4() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Caps the logits behind its output layer, and attends within a window."""
    if Version(T.__version__) < Version("5.23"):
        pytest.skip("Transformers before 5.23 loses Gemma 4's number of frames")
    names = {"image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>"}
    names |= {"audio_token": "<|audio|>", "boa_token": "<|audio>", "eoa_token": "<audio|>"}
    tokenizer = byte_tokenizer([*names.values(), "<|video|>", *TURN], **names)
    processor = T.Gemma4Processor(
        T.Gemma4AudioFeatureExtractor(),
        T.Gemma4ImageProcessor(),
        tokenizer,
        T.Gemma4VideoProcessor(max_soft_tokens=70),
        chat_template=TEMPLATE.replace("VIDEO", "<|video|>"),
    )
    text = {"head_dim": 16, "sliding_window": 32, "final_logit_softcapping": 2.0}
    text |= {"vocab_size_per_layer_input": len(tokenizer), "hidden_size_per_layer_input": 16}
    heads = {"num_key_value_heads": 2, "head_dim": 16, "position_embedding_size": 1024}
    config = T.Gemma4Config(
        audio_config=None,
        **{f"{name}_id": tokenizer.convert_tokens_to_ids(names[name]) for name in list(names)[:5]},
        eoa_token_index=tokenizer.convert_tokens_to_ids(names["eoa_token"]),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video|>"),
        text_config=language(tokenizer, layer_types=["sliding_attention", "full_attention"], **text),
        vision_config=VISION | heads,
    )
    return T.Gemma4ForConditionalGeneration(config), processor


FAMILIES: dict[str, Callable[[], tuple[PreTrainedModel, ProcessorMixin]]] = {
    "smolvlm": smolvlm,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "llava_onevision": llava_onevision,
    "internvl": internvl,
}
# Each has a way of its own that one of the five has not.
ODD_FAMILIES = {"qwen3_5": qwen3_5, "cosmos3_edge": cosmos3_edge, "video_llama_3": video_llama_3, "gemma4": gemma4}


def tiny(family: str) -> tuple[PreTrainedModel, ProcessorMixin]:
    """A model of a family with the same weights at every call, in evaluation mode, and its processor."""
    torch.manual_seed(0)
    model, processor = (FAMILIES | ODD_FAMILIES)[family]()
    return model.eval(), processor
