"""SiaSamRea: the ClipBERT network with siamese reasoning over the clips of a video."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModel, BertPreTrainedModel, PreTrainedConfig, PreTrainedModel, initialization
from transformers.activations import ACT2FN
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput, can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from .adapter_siasamrea import adapter_source, load_adapter
from .configuration_siasamrea import PIPELINE_FILES, SiaSamReaConfig, pretrained_encoder_config
from .image_encoder_siasamrea import SiaSamReaImageEncoder, SiaSamReaVisualEmbeddings, frames_of, given_clips
from .loss_siasamrea import aggregate_clips, ground_truth_loss, mean_over_known
from .siamese_reasoning import SiameseReasoning


class _SumOverProcesses(torch.autograd.Function):
    """Sums a tensor over all processes, and its gradient too, because each process uses the sum."""

    @staticmethod
    def forward(ctx, tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return _SumOverProcesses.apply(gradient.contiguous())


class SiaSamReaCountBatchNorm(nn.BatchNorm1d):
    """
    Normalises by the statistics of the questions of all processes in training, so that two processes train like one
    with both batches. A single question is normalised by the running statistics (decision).

    PyTorch's `SyncBatchNorm` does this on GPUs only.

    Attributes:
        counted (`bool`): Whether this process's questions count; the Trainer sets `False` for placeholder rows.
    """

    counted = True

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Normalises `(questions, hidden_size)`."""
        processes = dist.get_world_size() if self.training and dist.is_initialized() else 1
        if processes > 1:
            return self._normalize_over_processes(features)
        if not self.training or len(features) == 1:
            return self._normalize_by_running_statistics(features)
        return super().forward(features)

    def _normalize_by_running_statistics(self, features: torch.Tensor) -> torch.Tensor:
        # In single precision, because FSDP2's mixed precision halves the parameters and not the statistics.
        values = (features, self.running_mean, self.running_var, self.weight, self.bias)
        normalized = nn.functional.batch_norm(*(value.float() for value in values), eps=self.eps)
        return normalized.to(features.dtype)

    def _normalize_over_processes(self, features: torch.Tensor) -> torch.Tensor:
        values = features.float()
        # Sums and the number of questions travel together: (hidden_size + 1,)
        own = torch.cat([values.sum(dim=0), values.new_tensor([len(values)])]) * self.counted
        total = _SumOverProcesses.apply(own)
        questions = total[-1].detach()
        if questions == 1:
            return self._normalize_by_running_statistics(features)
        mean = total[:-1] / questions
        variance = _SumOverProcesses.apply(((values - mean) ** 2).sum(dim=0) * self.counted) / questions
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * questions / (questions - 1), self.momentum)
        normalized = (values - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias
        return normalized.to(features.dtype)


def answer_head(config: SiaSamReaConfig, task: str) -> nn.Sequential:
    """Builds ClipBERT's head for `task`: one score per answer, one score per candidate, or one number."""
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


class NonFiniteError(ValueError):
    """Raised when weights, a loss, a gradient or scores are not finite, so that every result would be wrong."""


def check_weights(model: nn.Module, source: str | os.PathLike) -> None:
    """Raises a [`NonFiniteError`] naming the first parameter or statistic of the model that is NaN or infinite."""
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not value.is_meta and not torch.isfinite(value).all():
            raise NonFiniteError(f"{name} in {source} has NaN or infinite values, so every answer would be wrong.")


def check_index(folder: Path) -> None:
    """Raises a `ValueError` if an index of weights in several files names other files than those beside it."""
    for index in folder.glob("*.index.json"):
        try:
            content = json.loads(index.read_bytes())
            files = [Path(name) for name in content["weight_map"].values()]
            sound = isinstance(content["metadata"], dict) and files and all(file.name == str(file) for file in files)
        except (ValueError, TypeError, KeyError, AttributeError):
            sound = False
        if not sound:
            raise ValueError(f"{index} must name in weight_map, for each weight, a file of its own folder.")


class SiaSamReaPreTrainedModel(PreTrainedModel):
    """Loads, saves and initialises SiaSamRea models."""

    config_class = SiaSamReaConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["BertLayer", "ResNetStage"]
    # What `capture_outputs` records for `output_attentions` (Transformers' page on tracing outputs): as in BERT.
    _can_record_outputs = BertPreTrainedModel._can_record_outputs
    # The loss is a mean over the questions of a batch, not a sum to be divided by a count from the Trainer.
    accepts_loss_kwargs = False

    def _init_weights(self, module: nn.Module) -> None:
        """Also initialises the parameters that belong to no layer, which stay arbitrary if a checkpoint lacks them."""
        super()._init_weights(module)
        if isinstance(module, SiameseReasoning) and self.config.reasoning_weights == "learned":
            initialization.zeros_(module.w1_logits)
            initialization.zeros_(module.w2_logits)
        elif isinstance(module, SiaSamReaMaskedWordsHead):
            initialization.zeros_(module.bias)

    def get_input_embeddings(self) -> nn.Module:
        """Returns the text model's word embeddings."""
        return self.base_model.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the text model's word embeddings."""
        self.base_model.text_model.set_input_embeddings(value)

    def save_pretrained(self, save_directory: str | os.PathLike, is_main_process: bool = True, **kwargs) -> None:
        """Saves the model, with the code that loads it and answers with it where this package is not installed."""
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)
        # Transformers copies the files that this one imports; the pipeline's are not among them.
        for name in PIPELINE_FILES:
            source = Path(__file__).with_name(name)
            if is_main_process and source.exists():
                shutil.copyfile(source, Path(save_directory) / name)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike | None, *args, **kwargs):
        """
        Loads a checkpoint, see [`~transformers.PreTrainedModel.from_pretrained`]. Its weights must be finite, and the
        network's complete; heads and reasoning weights that it lacks start anew, with Transformers' warning.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        source = pretrained_model_name_or_path or "the state dictionary"
        check_index(Path(source, kwargs.get("subfolder") or ""))
        try:
            model, info = super().from_pretrained(
                pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
            )
        except SafetensorError as error:
            raise ValueError(f"The weights of {source} are damaged or not whole ({error}).") from None
        except UnpicklingError as error:
            raise ValueError(f"The weights of {source} cannot be read as tensors alone.") from error
        check_weights(model, source)
        network = "" if model.base_model is model else f"{cls.base_model_prefix}."
        missing = sorted(name for name in info["missing_keys"] if name.startswith(network))
        if missing:
            raise ValueError(f"{source} lacks {len(missing)} weights of the network, such as {missing[0]}.")
        return (model, info) if wants_info else model

    @classmethod
    def from_vision_text_pretrained(cls, vision: str, text: str, **kwargs) -> "SiaSamReaPreTrainedModel":
        r"""
        Builds the model from a pretrained image encoder and a pretrained BERT; the rest starts from random weights.

        Args:
            vision (`str`): Hub name or folder of an image encoder, or of a model with a vision tower such as CLIP.
            text (`str`): Hub name or folder of a model of BERT's architecture.
            kwargs: Fields of [`SiaSamReaConfig`]; in `vision_config` and `text_config` those that differ from theirs.

        Returns:
            The model, in evaluation mode.

        Example:

        ```python
        >>> model = SiaSamReaForVideoQuestionAnswering.from_vision_text_pretrained(
        ...     "microsoft/resnet-50", "google-bert/bert-base-uncased", tasks=["open_ended"], num_labels=1000
        ... )
        ```"""
        vision_config = pretrained_encoder_config(vision, kwargs.pop("vision_config", None))
        text_config = pretrained_encoder_config(text, kwargs.pop("text_config", None))
        model = cls(SiaSamReaConfig(vision_config=vision_config, text_config=text_config, **kwargs))
        # The classes are named because AutoBackbone cannot load a local folder, and the method because TimmBackbone's
        # own takes names of timm's alone.
        load = PreTrainedModel.from_pretrained.__func__
        pretrained_vision = load(type(model.base_model.image_encoder.encoder), vision, config=vision_config)
        pretrained_text = type(model.base_model.text_model).from_pretrained(text, config=text_config)
        model.base_model.image_encoder.encoder.load_state_dict(pretrained_vision.state_dict())
        model.base_model.text_model.load_state_dict(pretrained_text.state_dict())
        check_weights(model.base_model.image_encoder.encoder, vision)
        check_weights(model.base_model.text_model, text)
        return model.eval()


class SiaSamReaModel(SiaSamReaPreTrainedModel):
    """
    Encodes each pair of a clip and a text as a pooled feature: the ClipBERT network without a head.

    Args:
        config ([`SiaSamReaConfig`]): The configuration; the text model must be of BERT's architecture.
    """

    def __init__(self, config: SiaSamReaConfig):
        super().__init__(config)
        config.validate()
        self.image_encoder = SiaSamReaImageEncoder(config)
        self.visual_embeddings = SiaSamReaVisualEmbeddings(config)
        self.text_model = AutoModel.from_config(config.text_config)
        missing = {"embeddings", "encoder", "pooler"} - {name for name, _ in self.text_model.named_children()}
        if missing:
            raise ValueError(
                f"The text model must be a BERT; {config.text_config.model_type!r} has no {min(missing)}."
            )
        self.post_init()

    @can_return_tuple
    def get_video_features(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
        frame_features: torch.Tensor | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPooling:
        r"""
        Computes the visual tokens of each clip, which all questions about a video share.

        Args:
            pixel_values_videos (`torch.Tensor` of shape `(videos, clips, frames, 3, height, width)`):
                Normalised frames.
            frame_mask (`torch.Tensor` of shape `(videos, frames)`, *optional*): 1 for frames, 0 for padding.
            frame_features (`torch.Tensor` of shape `(videos, clips, frames, channels, rows, columns)`, *optional*):
                The output of [`~SiaSamReaImageEncoder.encode`] for each frame, instead of frames.

        Returns:
            [`~transformers.modeling_outputs.BaseModelOutputWithPooling`]: `last_hidden_state`
            `(videos, clips, frames, rows, columns, hidden_size)`, the grid of each frame, and `pooler_output`
            `(videos, clips, tokens, hidden_size)`, the visual tokens.

        Raises:
            `ValueError`: If both or none of frames and features are given, or the shape is wrong.
        """
        name, clips = given_clips(pixel_values_videos, frame_features)
        encode = self.image_encoder.grid if name == "frame_features" else self.image_encoder
        grid = encode(frames_of(clips, name)).unflatten(0, clips.shape[:3])
        tokens = self.visual_embeddings(grid, frame_mask)
        return BaseModelOutputWithPooling(last_hidden_state=grid, pooler_output=tokens)

    @capture_outputs
    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        frame_mask: torch.Tensor | None = None,
        video_index: torch.LongTensor | None = None,
        pixel_sampling_size: int | None = None,
        frame_features: torch.Tensor | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPooling:
        r"""
        Encodes each pair of a clip and a text.

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
            frame_features (`torch.Tensor`, *optional*): See [`~SiaSamReaModel.get_video_features`].

        Returns:
            [`~transformers.modeling_outputs.BaseModelOutputWithPooling`]: rows are questions x clips x candidates, in
            this order: `last_hidden_state` `(rows, text tokens + visual tokens, hidden_size)` and `pooler_output`
            `(questions, clips, hidden_size)`, or `(questions, clips, candidates, hidden_size)`.

        Raises:
            `ValueError`: If a video is missing for a question, or a text is longer than the text model's positions.
        """
        features = self.get_video_features(pixel_values_videos, frame_mask, frame_features, return_dict=True)
        visual = features.pooler_output  # (videos, clips, visual tokens, hidden_size)
        if pixel_sampling_size is not None:
            drawn = torch.randperm(visual.shape[2], device=visual.device)[:pixel_sampling_size]
            visual = visual[:, :, drawn.sort().values]
        questions, clips = input_ids.shape[0], visual.shape[1]
        if video_index is not None:
            visual = visual[video_index]
        elif visual.shape[0] != questions:
            raise ValueError(
                f"video_index must say the video of each question; questions: {questions}, videos: {len(visual)}."
            )

        has_candidates = input_ids.ndim == 3
        candidates = input_ids.shape[1] if has_candidates else 1
        input_ids = input_ids.reshape(questions * candidates, -1)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        attention_mask = attention_mask.reshape_as(input_ids)
        length, most = input_ids.shape[1], self.text_model.config.max_position_embeddings
        if length > most:
            raise ValueError(f"The text has {length} tokens, the text model {most} positions; lower max_length.")
        text = self.text_model.embeddings(input_ids=input_ids, token_type_ids=token_type_ids.reshape_as(input_ids))

        shape = (questions, clips, candidates)
        text = text.unflatten(0, (questions, 1, candidates)).expand(*shape, -1, -1)
        visual = visual[:, :, None].expand(*shape, -1, -1)
        tokens = torch.cat([text, visual], dim=3).flatten(0, 2)  # (rows, text tokens + visual tokens, hidden_size)
        text_mask = attention_mask.unflatten(0, (questions, 1, candidates)).expand(*shape, -1)
        mask = torch.cat([text_mask, text_mask.new_ones(visual.shape[:-1])], dim=3).flatten(0, 2)

        mask = create_bidirectional_mask(self.text_model.config, tokens, mask)
        hidden_state = self.text_model.encoder(tokens, attention_mask=mask, **kwargs).last_hidden_state
        pooled = self.text_model.pooler(hidden_state).unflatten(0, shape if has_candidates else shape[:2])
        return BaseModelOutputWithPooling(last_hidden_state=hidden_state, pooler_output=pooled)


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
        # In a step of several passes running statistics move as far as in one of the anchor alone (decision): nine
        # passes of the same videos would leave little but the last step's, and evaluation would suffer.
        passes = config.num_clips if config.siamese_clips_trained else 1
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = 1 - (1 - module.momentum) ** (1 / passes)
        self.post_init()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike | None,
        *args,
        adapter_kwargs: dict | None = None,
        base_model: str | None = None,
        **kwargs,
    ) -> "SiaSamReaForVideoQuestionAnswering":
        """
        Loads a checkpoint; or a LoRA adapter, merged into `base_model` or the model that it names, see
        [`load_adapter`].
        """
        adapter = adapter_source(pretrained_model_name_or_path, adapter_kwargs)
        if adapter is None and base_model is not None:
            raise ValueError(f"{pretrained_model_name_or_path} is no adapter, so {base_model} is not its base model.")
        if adapter is None:
            kwargs["adapter_kwargs"] = adapter_kwargs
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = load_adapter(cls, adapter, *args, base_model=base_model, **kwargs)
        check_weights(model, adapter)
        model = model.merge_and_unload()
        model.name_or_path = adapter  # what an adapter over this model has to name
        return model.eval()

    def _task(self, task: str | None, has_candidates: bool) -> str:
        if task is None and len(self.heads) == 1:
            (task,) = self.heads
        if task not in self.heads:
            asked = "no task was given" if task is None else f"the task is {task!r}"
            raise ValueError(f"The model has heads for {list(self.heads)}, but {asked}.")
        if has_candidates != (task == "multiple_choice"):
            shape = "(questions, length)" if has_candidates else "(questions, candidates, length)"
            raise ValueError(f"The task {task!r} takes input_ids of shape {shape}.")
        return task

    def _clip_scores(self, outputs: BaseModelOutputWithPooling, task: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns features `(questions, clips, hidden_size)` and logits `(questions, clips, classes)` of clips."""
        pooled = outputs.pooler_output
        scores = self.heads[task](pooled.flatten(0, -2)).unflatten(0, pooled.shape[:-1])
        if task == "multiple_choice":  # (questions, clips, candidates, ...)
            return pooled.mean(dim=2), scores.squeeze(3)
        return pooled, scores

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        frame_mask: torch.Tensor | None = None,
        video_index: torch.LongTensor | None = None,
        task: str | None = None,
        labels: torch.Tensor | None = None,
        frame_features: torch.Tensor | None = None,
        **kwargs,
    ) -> SiaSamReaVideoQuestionAnsweringOutput:
        r"""
        Answers questions about clips.

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
                Index of the answer or of the candidate, or the count; -100 (not known, or outside the vocabulary) is
                ignored.
            frame_features (`torch.Tensor` of shape `(videos, clips, frames, channels, rows, columns)`, *optional*):
                Features instead of frames, see [`~SiaSamReaModel.get_video_features`].

        Returns:
            [`SiaSamReaVideoQuestionAnsweringOutput`]: `loss` is L_gt alone; the Trainer adds the siamese loss.

        Raises:
            `ValueError`: If the model has no head for the task, the inputs' shapes do not fit it or each other, or the
                text is longer than the text model's positions.
        """
        if input_ids is None:
            raise ValueError("input_ids must be given.")
        task = self._task(task, has_candidates=input_ids.ndim == 3)
        text = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "frame_mask": frame_mask,
            "video_index": video_index,
        }
        name, videos = given_clips(pixel_values_videos, frame_features)
        clips = videos.split(1, dim=1)[:1]  # the anchor
        siamese = videos[:, 1:]
        if siamese.shape[1] and (self.config.siamese_clips_trained or not self.training):
            clips += siamese.split(1, dim=1)  # one after another, which needs the least memory

        # Siamese clips first: their memory is free again when the anchor's graph is built.
        scores = []
        # They need a gradient only where they are supervised or the soft label is not detached.
        supervised = self.config.supervised_clips != "anchor"
        needed = supervised or (self.config.alpha > 0 and self.config.detach == "none")
        with torch.set_grad_enabled(torch.is_grad_enabled() and needed and self.training):
            for clip in clips[1:]:
                scores.append(self._clip_scores(self.model(**{name: clip}, **text), task))
            if scores and self.training and not torch.is_grad_enabled():
                # Autocast keeps the weights it has cast without gradient; the anchor needs its own.
                torch.clear_autocast_cache()
        anchor = self.model(**{name: clips[0]}, **text, **kwargs)
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
        """Computes L_gt, in training of the configuration's `supervised_clips`, at evaluation of the prediction."""
        how = self.config.multiple_choice_loss
        supervised = self.config.supervised_clips if self.training else "anchor"
        if supervised == "all":
            clip_losses = [ground_truth_loss(clip, labels, task, how) for clip in clip_logits.unbind(dim=1)]
            losses = torch.stack(clip_losses).mean(dim=0)  # (questions,)
        else:
            prediction = logits if supervised == "anchor" else aggregate_clips(clip_logits, supervised, task)
            losses = ground_truth_loss(prediction, labels, task, how)
        return mean_over_known(losses, labels)


@dataclass
class SiaSamReaForPreTrainingOutput(ModelOutput):
    """
    Output of [`SiaSamReaForPreTraining`].

    Args:
        loss (`torch.FloatTensor`, *optional*): The sum of the losses whose labels are given (ClipBERT).
        masked_words_loss (`torch.FloatTensor`, *optional*): Cross-entropy of the masked words.
        matching_loss (`torch.FloatTensor`, *optional*): Cross-entropy of the match.
        prediction_logits (`torch.FloatTensor` of shape `(texts, length, vocab_size)`): Scores of the words.
        matching_logits (`torch.FloatTensor` of shape `(texts, 2)`): Scores of "does not match" and "matches".
    """

    loss: torch.FloatTensor | None = None
    masked_words_loss: torch.FloatTensor | None = None
    matching_loss: torch.FloatTensor | None = None
    prediction_logits: torch.FloatTensor | None = None
    matching_logits: torch.FloatTensor | None = None


class SiaSamReaMaskedWordsHead(nn.Module):
    """Scores the words at each position: BERT's masked-language head, with BERT's parameter names."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        width = config.hidden_size
        self.transform = nn.ModuleDict(
            {"dense": nn.Linear(width, width), "LayerNorm": nn.LayerNorm(width, eps=config.layer_norm_eps)}
        )
        self.activation = ACT2FN[config.hidden_act]
        self.decoder = nn.Linear(width, config.vocab_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))  # tied to the decoder's

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """Words `(texts, length, width)` to scores `(texts, length, vocab_size)`."""
        return self.decoder(self.transform.LayerNorm(self.activation(self.transform.dense(words))))


class SiaSamReaForPreTraining(SiaSamReaPreTrainedModel):
    """
    The ClipBERT network with BERT's two pretraining heads, for pairs of a picture (or one clip of a video) and a text.

    Its checkpoints start a [`SiaSamReaForVideoQuestionAnswering`].

    Args:
        config ([`SiaSamReaConfig`]): The configuration; `pixel_random_sampling_size` applies in training.
    """

    _tied_weights_keys = {
        "cls.predictions.decoder.weight": "model.text_model.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }

    def __init__(self, config: SiaSamReaConfig):
        super().__init__(config)
        self.model = SiaSamReaModel(config)
        heads = {
            "predictions": SiaSamReaMaskedWordsHead(config.text_config),
            "seq_relationship": nn.Linear(config.text_config.hidden_size, 2),
        }
        self.cls = nn.ModuleDict(heads)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """Returns the masked-language head's decoder."""
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replaces the masked-language head's decoder."""
        self.cls.predictions.decoder = new_embeddings
        self.cls.predictions.bias = new_embeddings.bias

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        frame_mask: torch.Tensor | None = None,
        video_index: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        matching_labels: torch.LongTensor | None = None,
        **kwargs,
    ) -> SiaSamReaForPreTrainingOutput:
        r"""
        Predicts masked words, and whether text and picture match.

        Args:
            pixel_values_videos (`torch.Tensor` of shape `(videos, 1, frames, 3, height, width)`):
                Normalised frames of one clip; a picture is a video of one frame.
            input_ids (`torch.LongTensor` of shape `(texts, length)`): The texts, with masked words.
            attention_mask (`torch.Tensor` of the shape of `input_ids`, *optional*): 1 for tokens, 0 for padding.
            token_type_ids (`torch.LongTensor` of the shape of `input_ids`, *optional*): Segments; all 0 by default.
            frame_mask (`torch.Tensor` of shape `(videos, frames)`, *optional*): 1 for frames, 0 for padding.
            video_index (`torch.LongTensor` of shape `(texts,)`, *optional*):
                The picture each text is paired with; by default text i with picture i.
            labels (`torch.LongTensor` of the shape of `input_ids`, *optional*):
                The word behind each mask, -100 elsewhere and for texts that do not match (ClipBERT).
            matching_labels (`torch.LongTensor` of shape `(texts,)`, *optional*): 1 where text and picture match, or 0.

        Returns:
            [`SiaSamReaForPreTrainingOutput`]

        Raises:
            `ValueError`: If there is more than one clip.
        """
        if pixel_values_videos.shape[1] != 1:
            raise ValueError(f"Pretraining takes one clip per video; got {pixel_values_videos.shape[1]}.")
        size = self.config.pixel_random_sampling_size if self.training else None
        outputs = self.model(
            pixel_values_videos, input_ids, attention_mask, token_type_ids, frame_mask, video_index, size, **kwargs
        )
        words = outputs.last_hidden_state[:, : input_ids.shape[1]]  # (texts, length, hidden_size)
        prediction_logits = self.cls.predictions(words)
        matching_logits = self.cls.seq_relationship(outputs.pooler_output[:, 0])
        masked_words_loss = matching_loss = None
        if labels is not None:
            scores = prediction_logits.float().flatten(0, 1)
            losses = nn.functional.cross_entropy(scores, labels.flatten(), reduction="sum")  # -100 is left out
            masked_words_loss = losses / (labels != -100).sum().clamp(min=1)
        if matching_labels is not None:
            matching_loss = nn.functional.cross_entropy(matching_logits.float(), matching_labels)
        losses = [loss for loss in (masked_words_loss, matching_loss) if loss is not None]
        return SiaSamReaForPreTrainingOutput(
            loss=sum(losses) if losses else None,
            masked_words_loss=masked_words_loss,
            matching_loss=matching_loss,
            prediction_logits=prediction_logits,
            matching_logits=matching_logits,
        )
