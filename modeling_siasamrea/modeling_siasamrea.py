"""SiaSamRea: the ClipBERT network with siamese reasoning over the clips of a video."""

import inspect
import math
import os
import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import AutoBackbone, AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel, initialization
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING_NAMES
from transformers.models.bert.modeling_bert import BertLayer, BertLMPredictionHead, BertSelfAttention
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from .batch_norm_folding import fold_frozen_batch_norms
from .configuration_siasamrea import SiaSamReaConfig
from .loss_siasamrea import aggregate_clips, ground_truth_loss, mean_over_known
from .onednn_linear import run_wide_linears_by_onednn
from .siamese_reasoning import SiameseReasoning


@dataclass
class SiaSamReaVideoQuestionAnsweringOutput(ModelOutput):
    """
    Output of [`SiaSamReaForVideoQuestionAnswering`]. `classes` are the answers of the vocabulary, the candidates of a
    multiple-choice question, or the one number of a count.

    Args:
        loss (`torch.FloatTensor`, *optional*): The ground-truth loss L_gt, mean over questions, if labels are given.
        logits (`torch.FloatTensor` of shape `(questions, classes)`):
            The anchor clip's scores in training; at inference those of the given clip, or the ensemble of several.
        clip_logits (`torch.FloatTensor` of shape `(questions, clips, classes)`): Scores of each clip that was run.
        clip_features (`torch.FloatTensor` of shape `(questions, clips, hidden_size)`):
            The pooled feature of each clip, mean over the candidates of a multiple-choice question.
        soft_labels (`torch.FloatTensor` of shape `(questions, classes)`, *optional*):
            Q of equations 3 to 5, in training with siamese reasoning.
        affinity (`torch.FloatTensor` of shape `(questions, clips, clips)`, *optional*): Equation 2, beside Q.
        hidden_states (`tuple`, *optional*): Of the text model on the anchor clip, `(rows, tokens, hidden_size)` each.
        attentions (`tuple`, *optional*): Of the text model on the anchor clip, `(rows, heads, tokens, tokens)` each.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    clip_logits: torch.FloatTensor | None = None
    clip_features: torch.FloatTensor | None = None
    soft_labels: torch.FloatTensor | None = None
    affinity: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


def image_encoder_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class that encodes images for `config`: its backbone where Transformers has one, else its base model."""
    auto_class = AutoBackbone if config.model_type in MODEL_FOR_BACKBONE_MAPPING_NAMES else AutoModel
    return auto_class._model_mapping[type(config)]


class SiaSamReaImageEncoder(nn.Module):
    """
    Frames to a grid of features at the text model's width: an image encoder of Transformers, a 3x3 convolution, 2x2
    max-pooling and a ReLU (ClipBERT).

    The image encoder's output may be a feature map or a sequence of patches, with or without leading class tokens.
    """

    def __init__(self, config: SiaSamReaConfig):
        super().__init__()
        self.config = config
        encoder_class = image_encoder_class(config.vision_config)
        if not (encoder_class._supports_sdpa or encoder_class._supports_flash_attn):
            # A convolutional encoder has no attention; what is asked for concerns the text model.
            config.vision_config._attn_implementation = "eager"
        self.encoder = encoder_class._from_config(config.vision_config)
        if config.freeze_batch_norm and config.fold_batch_norm:
            fold_frozen_batch_norms(self.encoder)
        forward_parameters = inspect.signature(self.encoder.forward).parameters
        # Sizes other than the one a vision transformer was trained at need its positions interpolated.
        self.encoder_kwargs = (
            {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in forward_parameters else {}
        )
        if config.grid_channels is None:
            config.grid_channels = self._measure_channels()
        self.grid_encoder = nn.Conv2d(
            config.grid_channels, config.text_config.hidden_size, kernel_size=3, padding=1, bias=False
        )
        self.train()

    @torch.no_grad()
    def _measure_channels(self) -> int:
        self.encoder.eval()
        image = torch.zeros(1, 3, 64, 64, dtype=self.encoder.dtype, device=self.encoder.device)
        channels = self.feature_map(image).shape[1]
        self.encoder.train()
        return channels

    def _batch_norms(self) -> list[nn.Module]:
        return [module for module in self.encoder.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]

    def _freeze(self) -> None:
        frozen = self._batch_norms() if self.config.freeze_batch_norm else []
        for name in self.config.frozen_image_encoder_modules:
            try:
                frozen.append(self.encoder.get_submodule(name))
            except AttributeError:
                names = [child for child, module in self.encoder.named_modules() if child and child.count(".") < 3]
                raise ValueError(
                    f"frozen_image_encoder_modules names {name!r}, which the image encoder "
                    f"{type(self.encoder).__name__} does not have. It has: {', '.join(names)}."
                ) from None
        for module in frozen:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> "SiaSamReaImageEncoder":
        """Sets the mode; frozen batch norms stay in evaluation mode, so that their statistics never move."""
        super().train(mode)
        self._freeze()  # here, because from_pretrained makes new parameters after __init__
        if self.config.freeze_batch_norm:
            for module in self._batch_norms():
                module.eval()
        return self

    def feature_map(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames `(frames, 3, height, width)` to the encoder's output as a map `(frames, channels, rows, columns)`."""
        frames = frames.contiguous(memory_format=torch.channels_last)  # faster convolutions, same numbers
        outputs = self.encoder(frames, **self.encoder_kwargs)
        features = outputs.feature_maps[-1] if "feature_maps" in outputs else outputs.last_hidden_state
        if features.ndim == 4:
            return features
        # (frames, class tokens + patches, channels); a class token, where there is one, comes first.
        patch_size = self.config.vision_config.patch_size
        patch_height, patch_width = (patch_size, patch_size) if isinstance(patch_size, int) else patch_size
        rows, columns = frames.shape[-2] // patch_height, frames.shape[-1] // patch_width
        patches = features[:, features.shape[1] - rows * columns :]
        return patches.transpose(1, 2).unflatten(2, (rows, columns))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames `(frames, 3, height, width)` to a grid `(frames, rows, columns, hidden_size)`."""
        grid = self.grid_encoder(self.feature_map(frames))
        if min(grid.shape[-2:]) < 2:
            raise ValueError(
                f"Frames of {frames.shape[-2]} x {frames.shape[-1]} pixels give a grid of {grid.shape[-2]} x "
                f"{grid.shape[-1]} features, too small for the 2 x 2 max-pooling. Resize videos to a larger size."
            )
        return nn.functional.max_pool2d(grid, 2).relu().permute(0, 2, 3, 1)


class SiaSamReaVisualEmbeddings(nn.Module):
    """A clip's grid to visual tokens: mean over its frames, row, column and type embeddings, LayerNorm (ClipBERT)."""

    def __init__(self, config: SiaSamReaConfig):
        super().__init__()
        hidden_size = config.text_config.hidden_size
        self.row_position_embeddings = nn.Embedding(config.max_grid_rows, hidden_size)
        self.column_position_embeddings = nn.Embedding(config.max_grid_columns, hidden_size)
        self.token_type_embeddings = nn.Embedding(1, hidden_size)
        self.LayerNorm = nn.LayerNorm(hidden_size, eps=config.text_config.layer_norm_eps)
        self.dropout = nn.Dropout(config.text_config.hidden_dropout_prob)

    def forward(self, grid: torch.Tensor, frame_mask: torch.Tensor | None) -> torch.Tensor:
        """
        Args:
            grid (`torch.Tensor` of shape `(videos, clips, frames, rows, columns, hidden_size)`): Features of frames.
            frame_mask (`torch.Tensor` of shape `(videos, frames)`, *optional*): 1 for frames, 0 for padding.

        Returns:
            `torch.Tensor` of shape `(videos, clips, rows * columns, hidden_size)`: the visual tokens.
        """
        if frame_mask is None:
            grid = grid.mean(dim=2)
        else:
            weights = frame_mask.to(grid.dtype) / frame_mask.sum(dim=1, keepdim=True)
            grid = torch.einsum("vcfrwh,vf->vcrwh", grid, weights)
        rows, columns = grid.shape[2:4]
        for side, size, embedding in (
            ("rows", rows, self.row_position_embeddings),
            ("columns", columns, self.column_position_embeddings),
        ):
            if size > embedding.num_embeddings:
                raise ValueError(
                    f"The visual grid has {size} {side}, but the model has position embeddings for "
                    f"{embedding.num_embeddings}. Use smaller frames or a larger max_grid_{side}."
                )
        grid = (
            grid + self.row_position_embeddings.weight[:rows, None] + self.column_position_embeddings.weight[:columns]
        )
        tokens = grid.flatten(2, 3) + self.token_type_embeddings.weight  # (videos, clips, rows * columns, hidden_size)
        return self.dropout(self.LayerNorm(tokens))


class SiaSamReaPreTrainedModel(PreTrainedModel):
    """Loading, saving and initialising of SiaSamRea models."""

    config_class = SiaSamReaConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["BertLayer", "ResNetStage"]
    _can_record_outputs = {"hidden_states": BertLayer, "attentions": BertSelfAttention}
    # The loss is a mean over the questions of a batch, not a sum to be divided by a count from the Trainer.
    accepts_loss_kwargs = False

    def _init_weights(self, module: nn.Module) -> None:
        """Also the parameters that belong to no layer; a checkpoint without them would leave them as memory was."""
        super()._init_weights(module)
        if isinstance(module, SiameseReasoning) and self.config.reasoning_weights == "learned":
            initialization.zeros_(module.w1_logits)
            initialization.zeros_(module.w2_logits)
        elif isinstance(module, BertLMPredictionHead):
            initialization.zeros_(module.bias)

    def get_input_embeddings(self) -> nn.Module:
        """The text model's word embeddings."""
        return self.base_model.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the text model's word embeddings."""
        self.base_model.text_model.set_input_embeddings(value)

    def save_pretrained(self, save_directory: str | os.PathLike, is_main_process: bool = True, **kwargs) -> None:
        """Saves the model, with the code that loads it and answers with it where this package is not installed."""
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)
        # Transformers copies the files that this one imports; the pipeline is not among them.
        pipeline = Path(__file__).with_name("pipeline_siasamrea.py")
        if is_main_process and pipeline.exists():
            shutil.copyfile(pipeline, Path(save_directory) / pipeline.name)

    @classmethod
    def from_vision_text_pretrained(cls, vision: str, text: str, **kwargs) -> "SiaSamReaPreTrainedModel":
        r"""
        Builds the model from a pretrained image encoder and a pretrained BERT; the rest starts from random weights.

        Args:
            vision (`str`): Hub name or folder of an image encoder, or of a model with a vision tower such as CLIP.
            text (`str`): Hub name or folder of a model of BERT's architecture.
            kwargs: Fields of [`SiaSamReaConfig`].

        Returns:
            The model, in evaluation mode.

        Example:

        ```python
        >>> model = SiaSamReaForVideoQuestionAnswering.from_vision_text_pretrained(
        ...     "microsoft/resnet-50", "google-bert/bert-base-uncased", tasks=["open_ended"], num_labels=1000
        ... )
        ```"""
        vision_config = AutoConfig.from_pretrained(vision)
        vision_config = getattr(vision_config, "vision_config", vision_config)
        text_config = AutoConfig.from_pretrained(text)
        model = cls(SiaSamReaConfig(vision_config=vision_config, text_config=text_config, **kwargs))
        # The classes are named because AutoBackbone cannot load a local folder.
        pretrained_vision = type(model.base_model.image_encoder.encoder).from_pretrained(vision, config=vision_config)
        pretrained_text = type(model.base_model.text_model).from_pretrained(text, config=text_config)
        model.base_model.image_encoder.encoder.load_state_dict(pretrained_vision.state_dict())
        model.base_model.text_model.load_state_dict(pretrained_text.state_dict())
        return model.eval()


class SiaSamReaModel(SiaSamReaPreTrainedModel):
    """
    The ClipBERT network without a head: each (clip, text) pair to a pooled feature.

    Args:
        config ([`SiaSamReaConfig`]): The configuration; the text model must be of BERT's architecture.
    """

    def __init__(self, config: SiaSamReaConfig):
        super().__init__(config)
        self.image_encoder = SiaSamReaImageEncoder(config)
        self.visual_embeddings = SiaSamReaVisualEmbeddings(config)
        self.text_model = AutoModel.from_config(config.text_config)
        missing = {"embeddings", "encoder", "pooler"} - {name for name, _ in self.text_model.named_children()}
        if missing:
            raise ValueError(
                f"The text model must be of BERT's architecture; a {config.text_config.model_type!r} model has no "
                f"{' and no '.join(sorted(missing))}."
            )
        run_wide_linears_by_onednn(self)
        self.post_init()

    @can_return_tuple
    def get_video_features(
        self, pixel_values_videos: torch.Tensor, frame_mask: torch.Tensor | None = None, **kwargs
    ) -> BaseModelOutputWithPooling:
        r"""
        Visual tokens of each clip, which all questions about a video share.

        Args:
            pixel_values_videos (`torch.Tensor` of shape `(videos, clips, frames, 3, height, width)`):
                Normalised frames.
            frame_mask (`torch.Tensor` of shape `(videos, frames)`, *optional*): 1 for frames, 0 for padding.

        Returns:
            [`~transformers.modeling_outputs.BaseModelOutputWithPooling`]: `last_hidden_state`
            `(videos, clips, frames, rows, columns, hidden_size)`, the grid of each frame, and `pooler_output`
            `(videos, clips, tokens, hidden_size)`, the visual tokens.

        Raises:
            `ValueError`: If the frames are not of that shape.
        """
        if pixel_values_videos.ndim != 6:
            raise ValueError(
                "pixel_values_videos must have the shape (videos, clips, frames, 3, height, width); "
                f"got {tuple(pixel_values_videos.shape)}."
            )
        grid = self.image_encoder(pixel_values_videos.flatten(0, 2))
        grid = grid.unflatten(0, pixel_values_videos.shape[:3])  # (videos, clips, frames, rows, columns, hidden_size)
        return BaseModelOutputWithPooling(
            last_hidden_state=grid, pooler_output=self.visual_embeddings(grid, frame_mask)
        )

    @capture_outputs
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        frame_mask: torch.Tensor | None = None,
        video_index: torch.LongTensor | None = None,
        pixel_sampling_size: int | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPooling:
        r"""
        Args:
            pixel_values_videos (`torch.Tensor` of shape `(videos, clips, frames, 3, height, width)`):
                Normalised frames.
            input_ids (`torch.LongTensor` of shape `(questions, length)` or `(questions, candidates, length)`):
                The text.
            attention_mask (`torch.Tensor` of the shape of `input_ids`, *optional*): 1 for tokens, 0 for padding.
            token_type_ids (`torch.LongTensor` of the shape of `input_ids`, *optional*): Segments; all 0 by default.
            frame_mask (`torch.Tensor` of shape `(videos, frames)`, *optional*): 1 for frames, 0 for padding.
            video_index (`torch.LongTensor` of shape `(questions,)`, *optional*):
                The video each question asks about; by default question i asks about video i.
            pixel_sampling_size (`int`, *optional*):
                Visual tokens that are seen, drawn once for the batch, in pretraining (ClipBERT). Default: all.

        Returns:
            [`~transformers.modeling_outputs.BaseModelOutputWithPooling`]: rows are questions x clips x candidates, in
            this order: `last_hidden_state` `(rows, text tokens + visual tokens, hidden_size)` and `pooler_output`
            `(questions, clips, hidden_size)`, or `(questions, clips, candidates, hidden_size)`.
        """
        visual = self.get_video_features(pixel_values_videos, frame_mask, return_dict=True).pooler_output
        if pixel_sampling_size is not None:
            drawn = torch.randperm(visual.shape[2], device=visual.device)[:pixel_sampling_size]
            visual = visual[:, :, drawn.sort().values]
        questions, clips = input_ids.shape[0], visual.shape[1]
        if video_index is not None:
            visual = visual[video_index]
        elif visual.shape[0] != questions:
            raise ValueError(
                f"The batch has {questions} questions about {visual.shape[0]} videos: video_index must say which "
                "video each question asks about."
            )

        has_candidates = input_ids.ndim == 3
        candidates = input_ids.shape[1] if has_candidates else 1
        input_ids = input_ids.reshape(questions * candidates, -1)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        attention_mask = attention_mask.reshape_as(input_ids)
        text = self.text_model.embeddings(input_ids=input_ids, token_type_ids=token_type_ids.reshape_as(input_ids))

        shape = (questions, clips, candidates)
        text = text.unflatten(0, (questions, 1, candidates)).expand(*shape, -1, -1)
        visual = visual[:, :, None].expand(*shape, -1, -1)
        tokens = torch.cat([text, visual], dim=3).flatten(0, 2)  # (rows, text tokens + visual tokens, hidden_size)
        text_mask = attention_mask.unflatten(0, (questions, 1, candidates)).expand(*shape, -1)
        mask = torch.cat([text_mask, text_mask.new_ones(visual.shape[:-1])], dim=3).flatten(0, 2)

        mask = create_bidirectional_mask(self.text_model.config, tokens, mask)
        hidden_state = self.text_model.encoder(tokens, attention_mask=mask, **kwargs).last_hidden_state
        pooled = self.text_model.pooler(hidden_state).unflatten(0, shape)
        return BaseModelOutputWithPooling(
            last_hidden_state=hidden_state, pooler_output=pooled if has_candidates else pooled.squeeze(2)
        )


class SiaSamReaCountBatchNorm(nn.BatchNorm1d):
    """Batch norm of the counting head; a batch of one question is normalised by the running statistics (decision)."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Normalises `(questions, hidden_size)`."""
        if self.training and len(features) == 1:
            return nn.functional.batch_norm(
                features, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(features)


def answer_head(config: SiaSamReaConfig, task: str) -> nn.Sequential:
    """ClipBERT's head for `task`: one score an answer, one score a candidate, or one number."""
    hidden_size, dropout = config.text_config.hidden_size, config.text_config.hidden_dropout_prob
    if task == "count":
        return nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(hidden_size, hidden_size),
            nn.ELU(),
            SiaSamReaCountBatchNorm(hidden_size),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, 1),
        )
    width = config.classifier_hidden_scale * hidden_size
    classes = config.num_labels if task == "open_ended" else 1
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden_size, width), nn.ReLU(), nn.Linear(width, classes))


class SiaSamReaForVideoQuestionAnswering(SiaSamReaPreTrainedModel):
    """
    SiaSamRea for video question answering: the ClipBERT network, a head for each task, and siamese reasoning.

    Args:
        config ([`SiaSamReaConfig`]): The configuration; `tasks` says which heads the model has.
    """

    def __init__(self, config: SiaSamReaConfig):
        super().__init__(config)
        self.model = SiaSamReaModel(config)
        self.heads = nn.ModuleDict({task: answer_head(config, task) for task in config.tasks})
        if config.alpha > 0:
            self.siamese_reasoning = SiameseReasoning(config)
        if config.siamese_clips_trained:
            self._pace_batch_norms(1 + math.ceil((config.num_clips - 1) / config.siamese_chunk_size))
        self.post_init()

    def _pace_batch_norms(self, passes: int) -> None:
        """
        Lets running statistics move as far in a step of several passes as in one of the anchor alone (decision):
        nine passes of the same videos would leave little but the last step's, and evaluation would suffer.
        """
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = 1 - (1 - module.momentum) ** (1 / passes)

    def _task(self, task: str | None, has_candidates: bool) -> str:
        if task is None and len(self.heads) == 1:
            (task,) = self.heads
        if task not in self.heads:
            asked = "no task was given" if task is None else f"the task is {task!r}"
            raise ValueError(f"The model has heads for {list(self.heads)}, but {asked}.")
        if has_candidates != (task == "multiple_choice"):
            raise ValueError(
                f"The task {task!r} takes input_ids of shape "
                + ("(questions, candidates, length)." if task == "multiple_choice" else "(questions, length).")
            )
        return task

    def _clip_scores(self, outputs: BaseModelOutputWithPooling, task: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Features `(questions, clips, hidden_size)` and logits `(questions, clips, classes)` of the clips run."""
        pooled = outputs.pooler_output
        scores = self.heads[task](pooled.flatten(0, -2)).unflatten(0, pooled.shape[:-1])
        if task == "multiple_choice":  # (questions, clips, candidates, ...)
            return pooled.mean(dim=2), scores.squeeze(3)
        return pooled, scores

    def _siamese_context(self):
        """Siamese clips need a gradient only where they are supervised or the soft label is not detached."""
        needed = self.config.supervised_clips != "anchor" or (self.config.alpha > 0 and self.config.detach == "none")
        return nullcontext() if needed and self.training else torch.no_grad()

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        frame_mask: torch.Tensor | None = None,
        video_index: torch.LongTensor | None = None,
        task: str | None = None,
        labels: torch.Tensor | None = None,
        **kwargs,
    ) -> SiaSamReaVideoQuestionAnsweringOutput:
        r"""
        Args:
            pixel_values_videos (`torch.Tensor` of shape `(videos, clips, frames, 3, height, width)`):
                Normalised frames; clip 0 is the anchor. `config.num_clips` clips in training, one at inference.
            input_ids (`torch.LongTensor` of shape `(questions, length)` or `(questions, candidates, length)`):
                The questions, or for multiple choice each question with each of its candidates.
            attention_mask (`torch.Tensor` of the shape of `input_ids`, *optional*): 1 for tokens, 0 for padding.
            token_type_ids (`torch.LongTensor` of the shape of `input_ids`, *optional*): Segments; all 0 by default.
            frame_mask (`torch.Tensor` of shape `(videos, frames)`, *optional*): 1 for frames, 0 for padding.
            video_index (`torch.LongTensor` of shape `(questions,)`, *optional*):
                The video each question asks about; by default question i asks about video i.
            task (`str`, *optional*): The kind of all questions of the batch; may be left out with one head.
            labels (`torch.Tensor` of shape `(questions,)`, *optional*):
                Index of the answer (-100: outside the vocabulary, ignored), index of the candidate, or the count.

        Returns:
            [`SiaSamReaVideoQuestionAnsweringOutput`]: `loss` is L_gt alone; the Trainer adds the siamese loss.

        Raises:
            `ValueError`: If the model has no head for the task, or the inputs' shapes do not fit it or each other.
        """
        task = self._task(task, has_candidates=input_ids.ndim == 3)
        text = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "frame_mask": frame_mask,
            "video_index": video_index,
        }
        clips = pixel_values_videos.split(1, dim=1)[:1]  # the anchor
        siamese = pixel_values_videos[:, 1:]
        if siamese.shape[1] and (self.config.siamese_clips_trained or not self.training):
            clips += siamese.split(self.config.siamese_chunk_size, dim=1)

        # Siamese clips first: what they need in memory is free again when the anchor's graph is built.
        scores = []
        with self._siamese_context():
            for chunk in clips[1:]:
                scores.append(self._clip_scores(self.model(chunk, **text), task))
        anchor = self.model(clips[0], **text, **kwargs)
        scores.insert(0, self._clip_scores(anchor, task))
        clip_features, clip_logits = (torch.cat(parts, dim=1) for parts in zip(*scores))  # (questions, clips, ...)

        soft_labels = affinity = None
        if self.training and self.config.alpha > 0 and len(clips) > 1:
            soft_labels, affinity = self.siamese_reasoning(clip_features, clip_logits)

        logits = clip_logits[:, 0] if self.training else aggregate_clips(clip_logits, self.config.ensemble, task)
        return SiaSamReaVideoQuestionAnsweringOutput(
            loss=None if labels is None else self._ground_truth_loss(logits, clip_logits, labels, task),
            logits=logits,
            clip_logits=clip_logits,
            clip_features=clip_features,
            soft_labels=soft_labels,
            affinity=affinity,
            hidden_states=anchor.hidden_states,
            attentions=anchor.attentions,
        )

    def _ground_truth_loss(
        self, logits: torch.Tensor, clip_logits: torch.Tensor, labels: torch.Tensor, task: str
    ) -> torch.Tensor:
        """L_gt of the configuration's `supervised_clips` in training, of the prediction at evaluation."""
        how = self.config.multiple_choice_loss
        supervised = self.config.supervised_clips if self.training else "anchor"
        if supervised == "all":
            clip_losses = [ground_truth_loss(clip, labels, task, how) for clip in clip_logits.unbind(dim=1)]
            losses = torch.stack(clip_losses).mean(dim=0)  # (questions,)
        else:
            prediction = logits if supervised == "anchor" else aggregate_clips(clip_logits, supervised, task)
            losses = ground_truth_loss(prediction, labels, task, how)
        return mean_over_known(losses, labels)


__all__ = [
    "SiaSamReaForVideoQuestionAnswering",
    "SiaSamReaModel",
    "SiaSamReaPreTrainedModel",
    "SiaSamReaVideoQuestionAnsweringOutput",
]
