"""SiaSamRea model configuration."""

import difflib
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.utils import logging
from transformers.utils.type_validators import interval


logger = logging.get_logger(__name__)

TASKS = ("open_ended", "multiple_choice", "count")


def round_count(count: float, count_range: Sequence[int] | None = None) -> int:
    """
    Rounds a predicted count: to the nearest whole number that is 0 or more, or within `count_range`, both ends
    included, where a benchmark clips counts (TGIF-QA: 1 to 10).
    """
    low, high = count_range or (0, math.inf)
    return int(min(max(round(count), low), high))


# What a checkpoint says of the pipeline that travels with it, for machines where this package is not installed.
CUSTOM_PIPELINES = {
    "video-question-answering": {
        "impl": "pipeline_siasamrea.VideoQuestionAnsweringPipeline",
        "pt": ["AutoModelForVisualQuestionAnswering"],
        "type": "multimodal",
    }
}
# That pipeline's own files, which travel with checkpoints beside those that the model imports.
PIPELINE_FILES = ("pipeline_siasamrea.py", "requests_siasamrea.py")

# Fields of version 0.2.0, with the value that every model has now. None of them changed an answer.
RETIRED = {"affinity_temperature": 1.0, "fold_batch_norm": None, "siamese_bfloat16": False, "siamese_chunk_size": None}
# Names in configuration files that are no attributes of Transformers' base class.
ENCODERS = {
    "vision_config": {"model_type": "resnet", "downsample_in_bottleneck": True},
    "text_config": {"model_type": "bert"},
}
WRITTEN = ("attn_implementation", "auto_map", "custom_pipelines", "name_or_path", "quantization_config", "torch_dtype")


def did_you_mean(owner: str, given: Iterable[str], names: Collection[str], cutoff: float = 0.0) -> None:
    r"""
    Refuses names that an owner does not have.

    Args:
        owner (`str`): What the error calls it.
        given (`Iterable[str]`): The names.
        names (`Collection[str]`): Those that it has.
        cutoff (`float`, *optional*, defaults to 0.0): How near a name must be to one of them to be refused, 0 to 1.

    Raises:
        `ValueError`: If a name is unknown; says the nearest right one.
    """
    for name in given:
        nearest = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
        if name not in names and nearest:
            raise ValueError(f"{owner} has no {name!r}. Did you mean {nearest[0]!r}?")


def pretrained_encoder_config(name: str, changes: Mapping[str, Any] | None = None) -> PreTrainedConfig:
    r"""
    Loads the configuration of a pretrained encoder and changes fields of it, such as its dropout.

    Args:
        name (`str`): Hub name or folder of the encoder, or of a model with a vision tower, which is taken.
        changes (`Mapping[str, Any]`, *optional*): Fields over the encoder's own.

    Raises:
        `ValueError`: If the encoder has no such field, or is of another model type than the one that is given.
    """
    config = AutoConfig.from_pretrained(name)
    config = getattr(config, "vision_config", config)
    changed = dict(changes or {})
    model_type = changed.pop("model_type", config.model_type)
    if model_type != config.model_type:
        raise ValueError(f"{name} is a {config.model_type!r} model; its model type cannot be {model_type!r}.")
    did_you_mean(f"The {model_type!r} model {name}", changed, sorted(config.to_dict()))
    config.update(changed)
    return config


def _check_answers(id2label: Any) -> None:
    """Raises a `ValueError` unless an answer vocabulary maps 0, 1, 2, ... to texts that differ."""
    if not isinstance(id2label, Mapping) or not all(str(index).isdecimal() for index in id2label):
        raise ValueError(f'id2label must be a dictionary such as {{0: "cat", 1: "dog"}}; got {id2label!r:.100}.')
    ids, answers = sorted(map(int, id2label)), list(id2label.values())
    if not ids or ids != list(range(len(ids))):
        raise ValueError(f"The keys of id2label must be 0, 1, 2 and so on, each once; got {ids[:10]}.")
    wrong = [answer for answer in answers if not isinstance(answer, str) or not answer.strip()]
    wrong = wrong or [answer for answer, times in Counter(answers).items() if times > 1]
    if wrong:
        raise ValueError(f"The answers of id2label must be texts that differ and are not blank; got {wrong[0]!r}.")


@strict
class SiaSamReaConfig(PreTrainedConfig):
    r"""
    Configuration of a [`SiaSamReaModel`] or a [`SiaSamReaForVideoQuestionAnswering`]: the ClipBERT network (an image
    encoder and a BERT text model), the tasks it has heads for, and siamese sampling and reasoning (Yu et al., NeurIPS
    2021). Each field says whether the paper sets it or whether it is our decision where the paper is silent.

    Args:
        vision_config (`PreTrainedConfig` or `dict`, *optional*):
            Configuration of the image encoder: any model of Transformers whose output is a feature map or a sequence
            of patches. Defaults to a ResNet-50 with ClipBERT's stride in the first 1x1 convolution of a stage.
        text_config (`PreTrainedConfig` or `dict`, *optional*):
            Configuration of the text model, of BERT's architecture. Defaults to BERT-base.
        tasks (`list[str]`, *optional*, defaults to `["open_ended"]`):
            The kinds of question the model has a head for, among `"open_ended"`, `"multiple_choice"` and `"count"`.
            Paper: one model is trained on several tasks together, each with its own loss. Decision: one head for each
            kind, so TGIF-QA's action and transition tasks share the multiple-choice head. Empty for pretraining.
        num_clips (`int`, *optional*, defaults to 9):
            N, the clips of a video in training: the anchor and N - 1 siamese clips. Paper: 8 siamese clips.
        alpha (`float`, *optional*, defaults to 1.0):
            Weight of the siamese loss in equation 8. Paper: 1.0. At 0 the model is the baseline of the paper's Table 1
            and the siamese clips are not run.
        omega (`float`, *optional*, defaults to 0.5):
            Weight of the propagated knowledge in equations 3 to 5, in [0, 1]. Paper: 0.5.
        affinity (`str`, *optional*, defaults to `"knowledge"`):
            `"knowledge"`: siamese knowledge generation, equations 1 and 2 (paper). `"average"`: 1 / (N - 1) off the
            diagonal, the paper's "w/ SKR" row of Table 1.
        reasoning_weights (`str`, *optional*, defaults to `"learned"`):
            W1 and W2 of equations 3 to 5. `"learned"`: trainable (paper), each a softmax over N free parameters
            (decision: keeps the soft label a distribution). `"uniform"`, `"anchor"` and `"siamese"` are fixed; with
            the last, W1 is 1 for the anchor and W2 uniform over the siamese clips, so Q is theirs alone (decision).
        detach (`str`, *optional*, defaults to `"targets"`):
            Where gradients stop in the soft label. Decision: `"targets"` detaches probabilities and affinity, so W1
            and W2 train and siamese clips need no gradient; `"none"` detaches nothing; `"all"` the whole soft label.
        supervised_clips (`str`, *optional*, defaults to `"anchor"`):
            What the ground-truth loss is taken on. Decision: `"anchor"`. `"all"`: each clip (with `alpha=0` the
            baseline of equal compute). `"mean"`, `"max"`, `"lse"`: logits aggregated over clips, as ClipBERT trains.
        ensemble (`str`, *optional*, defaults to `"mean"`):
            How logits of several clips are joined at inference: `"mean"`, `"max"` or `"lse"` (ClipBERT). Paper: the
            anchor clip alone, for which this changes nothing. Counts are always averaged.
        count_range (`list[int]`, *optional*):
            The least and largest count that the model answers, where its benchmark clips counts (TGIF-QA: 1 to 10).
        multiple_choice_loss (`str`, *optional*, defaults to `"hinge"`):
            `"hinge"`: summed pairwise hinge (paper). `"cross_entropy"` over the candidates (ClipBERT).
        freeze_batch_norm (`bool`, *optional*, defaults to `True`):
            Whether the image encoder's batch norms keep their statistics and parameters (ClipBERT).
        frozen_image_encoder_modules (`list[str]`, *optional*, defaults to `[]`):
            Names of modules inside the image encoder whose parameters do not train, such as `"embedder"` and
            `"encoder.stages.0"` of a ResNet (ClipBERT freezes these two). `"all"` freezes every encoder as a whole,
            without dropout in training (decision).
        classifier_hidden_scale (`int`, *optional*, defaults to 2):
            Width of the answer heads' hidden layer over the text model's (ClipBERT).
        max_grid_rows (`int`, *optional*, defaults to 100):
            Row position embeddings, the greatest height of the visual grid (ClipBERT).
        max_grid_columns (`int`, *optional*, defaults to 100):
            Column position embeddings, the greatest width of the visual grid (ClipBERT).
        pixel_random_sampling_size (`int`, *optional*):
            Visual tokens that pretraining sees, drawn at random; all by default (ClipBERT: 100). Nothing else uses it.
        tie_word_embeddings (`bool`, *optional*, defaults to `True`):
            Whether the pretraining head's decoder is the word embeddings (ClipBERT).
        grid_channels (`int`, *optional*):
            Channels of the image encoder's output. Measured when the model is first built.
        id2label (`dict[int, str]`, *optional*):
            The answer vocabulary of the open-ended head.

    Raises:
        `ValueError`: If a name is not that of a field.
        [`~huggingface_hub.errors.StrictDataclassError`]: If a value is wrong, or fields do not fit each other.

    Example:

    ```python
    >>> from modeling_siasamrea import SiaSamReaConfig, SiaSamReaForVideoQuestionAnswering

    >>> config = SiaSamReaConfig(tasks=["open_ended", "count"], id2label={0: "cat", 1: "dog"})
    >>> model = SiaSamReaForVideoQuestionAnswering(config)
    ```"""

    model_type = "siasamrea"
    sub_configs = {"vision_config": AutoConfig, "text_config": AutoConfig}
    keys_to_ignore_at_inference = [
        "clip_logits",
        "clip_features",
        "soft_labels",
        "affinity",
        "hidden_states",
        "attentions",
    ]

    vision_config: PreTrainedConfig | dict | None = None
    text_config: PreTrainedConfig | dict | None = None
    tasks: list[str] | tuple[str, ...] = ("open_ended",)
    num_clips: int = interval(min=1)(default=9)
    alpha: float | int = interval(min=0, max=1e6)(default=1.0)
    omega: float | int = interval(min=0, max=1)(default=0.5)
    affinity: Literal["knowledge", "average"] = "knowledge"
    reasoning_weights: Literal["learned", "uniform", "anchor", "siamese"] = "learned"
    detach: Literal["targets", "none", "all"] = "targets"
    supervised_clips: Literal["anchor", "all", "mean", "max", "lse"] = "anchor"
    ensemble: Literal["mean", "max", "lse"] = "mean"
    count_range: list[int] | None = None
    multiple_choice_loss: Literal["hinge", "cross_entropy"] = "hinge"
    freeze_batch_norm: bool = True
    frozen_image_encoder_modules: list[str] | tuple[str, ...] = ()
    classifier_hidden_scale: int = interval(min=1)(default=2)
    max_grid_rows: int = interval(min=1)(default=100)
    max_grid_columns: int = interval(min=1)(default=100)
    pixel_random_sampling_size: int | None = None
    tie_word_embeddings: bool = True
    grid_channels: int | None = None

    def __post_init__(self, **kwargs):
        # Where the package is installed it registers the pipeline itself, and no code is fetched from a checkpoint.
        if not self.__module__.startswith("transformers_modules"):
            kwargs.pop("custom_pipelines", None)
        given = [name for name in kwargs if not self._is_transformers_own(name)]
        did_you_mean("SiaSamReaConfig", given, self.__dataclass_fields__)
        self.tasks = list(self.tasks)
        self.frozen_image_encoder_modules = list(self.frozen_image_encoder_modules)
        if self.id2label is None and self.label2id is not None:
            self.id2label = {index: answer for answer, index in self.label2id.items()}
        if self.id2label is not None:
            _check_answers(self.id2label)
        for name, default in ENCODERS.items():
            given = default if getattr(self, name) is None else getattr(self, name)
            if isinstance(given, dict):
                setattr(self, name, AutoConfig.for_model(**{"model_type": default["model_type"]} | given))
        super().__post_init__(**kwargs)
        if self.label2id is None:
            self.label2id = {answer: index for index, answer in self.id2label.items()}

    @staticmethod
    def _is_transformers_own(name: str) -> bool:
        return name.startswith("_") or hasattr(PreTrainedConfig, name) or name in WRITTEN

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs) -> tuple[dict[str, Any], dict[str, Any]]:
        """Reads a configuration file, whose content must be a JSON object."""
        try:
            return super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        except (TypeError, AttributeError) as error:
            name = Path(pretrained_model_name_or_path) / "config.json"
            raise ValueError(f"{name} must hold a JSON object of fields: {error}.") from None

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs) -> "SiaSamReaConfig":
        """
        Makes the configuration of a dictionary, with `kwargs` over it. Fields of version 0.2.0 that no longer exist
        are left out.
        """
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ValueError(f"The configuration is of a {model_type!r} model, not of a {cls.model_type!r} model.")
        # Transformers passes names of its own here, so only those that are almost a field's are refused.
        names = cls.__dataclass_fields__
        did_you_mean("SiaSamReaConfig", kwargs, names, cutoff=0.8)
        for name, value in RETIRED.items():
            if value not in (None, config_dict.get(name, value)):
                logger.warning_once(f"{name}={config_dict[name]} has no effect in training any more.")
        if "id2label" in kwargs:
            kwargs.setdefault("label2id", {answer: int(index) for index, answer in kwargs["id2label"].items()})
        # A file may also hold what Transformers has set on a configuration, such as `use_cache`.
        known = {name: value for name, value in config_dict.items() if name in names or cls._is_transformers_own(name)}
        others = {name: value for name, value in config_dict.items() if name not in {*known, *RETIRED}}
        did_you_mean("SiaSamReaConfig", others, names, cutoff=0.6)
        made = super().from_dict(known, **kwargs)
        config = made[0] if isinstance(made, tuple) else made
        config.update(others)
        config.validate()  # `kwargs` were set one by one
        return made

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields, with the pipeline that travels with a checkpoint."""
        return super().to_dict() | {"custom_pipelines": CUSTOM_PIPELINES}

    def validate_answers(self) -> None:
        """Checks the answer vocabulary, and that its two tables agree."""
        _check_answers(self.id2label)
        ids = {answer: int(index) for index, answer in self.id2label.items()}
        if {answer: int(index) for answer, index in self.label2id.items()} != ids:
            raise ValueError("label2id must be the inverse of id2label; id2label alone is enough.")

    def validate_tasks(self) -> None:
        """Checks that the tasks exist and are named once."""
        if set(self.tasks) - set(TASKS) or len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks must be among {list(TASKS)}, each once; got {list(self.tasks)}.")

    def validate_sizes(self) -> None:
        """Checks the size that may be `None`."""
        size = self.pixel_random_sampling_size
        if size is not None and size < 1:
            raise ValueError(f"pixel_random_sampling_size must be 1 or more; got {size}.")

    def validate_text_model(self) -> None:
        """Checks that the text model is of BERT's architecture, as far as its configuration tells."""
        lacking = [name for name in ("hidden_dropout_prob", "layer_norm_eps") if not hasattr(self.text_config, name)]
        if lacking:
            raise ValueError(f"The text model must be a BERT; {self.text_config.model_type!r} has no {lacking[0]}.")

    def validate_num_clips(self) -> None:
        """Checks that siamese reasoning has clips to reason over."""
        if self.siamese_clips_trained and self.num_clips < 2:
            raise ValueError(f"Siamese reasoning needs 2 or more clips, or alpha=0; got num_clips={self.num_clips}.")

    @property
    def siamese_clips_trained(self) -> bool:
        """Returns whether training runs the siamese clips, for their soft label or because they are supervised."""
        return self.alpha > 0 or self.supervised_clips != "anchor"
