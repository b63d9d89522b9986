"""Converts ClipBERT's weights to this model."""

import re
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import BertConfig, ResNetConfig

from ..configuration_siasamrea import SiaSamReaConfig
from ..modeling_siasamrea import SiaSamReaForPreTraining, SiaSamReaForVideoQuestionAnswering, SiaSamReaPreTrainedModel
from ..processors.video_error import first_line
from ..processors.video_processing_siasamrea import SiaSamReaVideoProcessor


State = dict[str, torch.Tensor]

# Official names to ours; the first pattern that matches counts.
RENAMED = (
    (r"cnn\.feature\.backbone\.stem\.conv1\.norm\.", "model.image_encoder.encoder.embedder.embedder.normalization."),
    (r"cnn\.feature\.backbone\.stem\.conv1\.", "model.image_encoder.encoder.embedder.embedder.convolution."),
    (r"cnn\.grid_encoder\.0\.", "model.image_encoder.grid_encoder."),
    (r"transformer\.bert\.visual_embeddings\.col_position_", "model.visual_embeddings.column_position_"),
    (r"transformer\.bert\.visual_embeddings\.", "model.visual_embeddings."),
    (r"transformer\.bert\.", "model.text_model."),
    (r"transformer\.cls\.", "cls."),
)
RESNET_LAYER = re.compile(r"cnn\.feature\.backbone\.res(\d)\.(\d+)\.(conv(\d)|shortcut)\.(norm\.)?(.+)")
HEAD = re.compile(r"transformer\.(?:classifier|regressor)\.(\d)\.(.+)")
# Heads of the detector that ClipBERT's image encoder comes from, and a position table that ClipBERT never reads.
LEFT_OUT = (
    r"cnn\.feature\.(proposal_generator|roi_heads)\.",
    r"transformer\.bert\.visual_embeddings\.position_embeddings\.",
    r"transformer\.bert\.embeddings\.position_ids$",
)
# Weights that a checkpoint may lack: W1, W2 and counters of frozen batch norms start anew, and the decoder of the
# masked-language head is the word embeddings with the head's own bias.
STARTS_ANEW = re.compile(r"siamese_reasoning\.|\.num_batches_tracked$|^cls\.predictions\.decoder\.")
# Fields of ClipBERT's BERT configuration that the shapes of weights do not tell. Without them BERT's defaults count.
OF_BERT = ("hidden_act", "layer_norm_eps", "hidden_dropout_prob", "attention_probs_dropout_prob", "pad_token_id")


def read_checkpoint(path: str | Path) -> State:
    r"""
    Reads the tensors of a `.pt` or `.safetensors` file and removes the prefix `module.`. Runs no code of the file.

    Raises:
        `ValueError`: If the file is missing or holds anything but tensors by name.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"The checkpoint {path} does not exist.")
    try:
        is_safetensors = path.suffix == ".safetensors"
        state = load_file(path) if is_safetensors else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises errors of many kinds
        raise ValueError(f"The checkpoint {path} cannot be read as tensors alone: {first_line(error)}") from None
    if not isinstance(state, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise ValueError(f"The checkpoint {path} must hold tensors by name, as ClipBERT saves them.")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def find_task(state: State) -> str | None:
    r"""
    Finds the task of a checkpoint by its head.

    Returns:
        `str`, *optional*: `"count"`, `"multiple_choice"` or `"open_ended"`; `None` for the pretraining heads.

    Raises:
        `ValueError`: If there is no head.
    """
    if "transformer.regressor.4.weight" in state:
        return "count"
    if "transformer.classifier.2.weight" in state:
        return "multiple_choice" if len(state["transformer.classifier.2.weight"]) == 1 else "open_ended"
    if "transformer.cls.seq_relationship.weight" in state:
        return None
    raise ValueError("The checkpoint has none of ClipBERT's heads: transformer.classifier, .regressor or .cls.")


def new_name(name: str, task: str | None) -> str:
    """Returns our name for an official parameter, or the official name if there is none."""
    layer = RESNET_LAYER.fullmatch(name)
    if layer:
        stage, index, part, convolution, norm, rest = layer.groups()
        part = "shortcut" if part == "shortcut" else f"layer.{int(convolution) - 1}"
        prefix = f"model.image_encoder.encoder.encoder.stages.{int(stage) - 2}.layers.{index}.{part}"
        return f"{prefix}.{'normalization' if norm else 'convolution'}.{rest}"
    head = HEAD.fullmatch(name)
    if head:
        return f"heads.{task}.{int(head[1]) + 1}.{head[2]}"
    for pattern, ours in RENAMED:
        if re.match(pattern, name):
            return re.sub(pattern, ours, name, count=1)
    return name


def read_config(state: State, task: str | None, bert: dict, num_attention_heads: int | None) -> SiaSamReaConfig:
    r"""
    Reads the configuration from the shapes of the weights.

    Args:
        state (`dict[str, torch.Tensor]`): The official state dict.
        task (`str`, *optional*): The task, see [`find_task`].
        bert (`dict`): ClipBERT's BERT configuration, for what shapes do not tell: heads, dropout, epsilon.
        num_attention_heads (`int`, *optional*): Attention heads. Default: those of `bert`, or one per 64 features.

    Raises:
        `ValueError`: If a weight whose shape is needed is missing.
    """
    try:
        stages = [
            [name for name in state if re.fullmatch(rf"cnn\.feature\.backbone\.res{stage}\.\d+\.conv3\.weight", name)]
            for stage in (2, 3, 4, 5)
        ]
        widths = [len(state[names[0]]) for names in stages]
        embeddings = "transformer.bert.embeddings."
        vocab_size, hidden_size = state[f"{embeddings}word_embeddings.weight"].shape
        layers = {name.split(".")[4] for name in state if name.startswith("transformer.bert.encoder.layer.")}
        text_config = BertConfig(
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            num_hidden_layers=len(layers),
            num_attention_heads=num_attention_heads or bert.get("num_attention_heads") or max(1, hidden_size // 64),
            intermediate_size=len(state["transformer.bert.encoder.layer.0.intermediate.dense.weight"]),
            max_position_embeddings=len(state[f"{embeddings}position_embeddings.weight"]),
            type_vocab_size=len(state[f"{embeddings}token_type_embeddings.weight"]),
            **{name: bert[name] for name in OF_BERT if name in bert},
        )
        visual = "transformer.bert.visual_embeddings."
        fields = {
            "max_grid_rows": len(state[f"{visual}row_position_embeddings.weight"]),
            "max_grid_columns": len(state[f"{visual}col_position_embeddings.weight"]),
        }
        stem_width = len(state["cnn.feature.backbone.stem.conv1.weight"])
    except (KeyError, IndexError) as error:
        raise ValueError(f"The checkpoint lacks weights that its widths are read from: {error}.") from None
    if task in ("open_ended", "multiple_choice"):
        fields["classifier_hidden_scale"] = len(state["transformer.classifier.0.weight"]) // hidden_size
    if task == "open_ended":
        fields["num_labels"] = len(state["transformer.classifier.2.weight"])
    if task is None:
        fields["pixel_random_sampling_size"] = bert.get("pixel_random_sampling_size", 100)
    return SiaSamReaConfig(
        vision_config=ResNetConfig(
            embedding_size=stem_width,
            hidden_sizes=widths,
            depths=[len(names) for names in stages],
            downsample_in_bottleneck=True,  # a stage's stride is in its first 1x1 convolution
        ),
        text_config=text_config,
        tasks=[] if task is None else [task],
        multiple_choice_loss="cross_entropy",
        frozen_image_encoder_modules=["embedder", "encoder.stages.0"],
        **fields,
    )


def convert_clipbert_state(
    state: State, bert: dict | None = None, num_attention_heads: int | None = None
) -> tuple[SiaSamReaPreTrainedModel, dict[str, list[str]]]:
    r"""
    Converts a state dict of ClipBERT.

    Args:
        state (`dict[str, torch.Tensor]`): The official state dict, see [`read_checkpoint`].
        bert (`dict`, *optional*): ClipBERT's BERT configuration, for what shapes do not tell.
        num_attention_heads (`int`, *optional*): Attention heads, instead of those of `bert`.

    Returns:
        `tuple`: The model in evaluation mode, a [`SiaSamReaForVideoQuestionAnswering`] (with pretraining heads a
        [`SiaSamReaForPreTraining`]), and the official names that were `used` and those `left_out` on purpose.

    Raises:
        `ValueError`: If weights are missing, unexpected or of another shape. The message names them.
    """
    task = find_task(state)
    model_class = SiaSamReaForPreTraining if task is None else SiaSamReaForVideoQuestionAnswering
    model = model_class(read_config(state, task, bert or {}, num_attention_heads))
    left_out = [name for name in state if any(re.match(pattern, name) for pattern in LEFT_OUT)]
    used = [name for name in state if name not in left_out]
    try:
        loaded = model.load_state_dict({new_name(name, task): state[name] for name in used}, strict=False)
    except RuntimeError as error:  # of another shape
        raise ValueError(f"The checkpoint is not ClipBERT's: {' '.join(str(error).split())}") from None
    missing = ", ".join(name for name in loaded.missing_keys if not STARTS_ANEW.search(name))
    unexpected = ", ".join(loaded.unexpected_keys)
    if missing or unexpected:
        raise ValueError(
            f"The checkpoint is not ClipBERT's: missing: {missing or None}; unexpected: {unexpected or None}."
        )
    model.tie_weights()
    return model.eval(), {"used": sorted(used), "left_out": sorted(left_out)}


def clipbert_video_processor(longest_edge: int = 448) -> SiaSamReaVideoProcessor:
    """Makes ClipBERT's video processor: BGR, minus the mean, not divided, resized without smoothing, padded square."""
    return SiaSamReaVideoProcessor(
        size={"longest_edge": longest_edge},
        antialias=False,
        round_frames=False,
        do_rescale=False,
        image_mean=[123.675, 116.28, 103.53],
        image_std=[1.0, 1.0, 1.0],
        channel_order="bgr",
    )
