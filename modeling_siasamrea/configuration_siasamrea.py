"""SiaSamRea model configuration."""

import difflib
import math
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin

import torch
from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError, StrictDataclassFieldValidationError
from transformers import AutoConfig, PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.configuration_utils import SubConfigSpec


TASKS = ("open_ended", "multiple_choice", "count")


def round_count(count: float, count_range: Sequence[int] | None = None) -> int:
    """
    Rounds a predicted count: to the nearest whole number that is 0 or more, or within `count_range`, both ends
    included, where a benchmark clips counts (TGIF-QA: 1 to 10).
    """
    low, high = count_range or (0, math.inf)
    return int(min(max(round(count), low), high))


# What a checkpoint says of the code that travels with it, for machines where this package is not installed.
AUTO_MAP = {
    "AutoConfig": "configuration_siasamrea.SiaSamReaConfig",
    "AutoModel": "modeling_siasamrea.SiaSamReaModel",
    "AutoModelForVisualQuestionAnswering": "modeling_siasamrea.SiaSamReaForVideoQuestionAnswering",
    "AutoProcessor": "processing_siasamrea.SiaSamReaProcessor",
    "AutoVideoProcessor": "video_processing_siasamrea.SiaSamReaVideoProcessor",
}
CUSTOM_PIPELINES = {
    "video-question-answering": {
        "impl": "pipeline_siasamrea.VideoQuestionAnsweringPipeline",
        "pt": ["AutoModelForVisualQuestionAnswering"],
        "type": "multimodal",
    }
}
# That pipeline's own files, which travel with checkpoints beside those that the model imports.
PIPELINE_FILES = ("pipeline_siasamrea.py", "requests_siasamrea.py")

# The least value of each number; all must be finite.
LEAST = {
    "num_clips": 1,
    "alpha": 0,
    "omega": 0,
    "affinity_temperature": 0,
    "siamese_chunk_size": 1,
    "classifier_hidden_scale": 1,
    "max_grid_rows": 1,
    "max_grid_columns": 1,
    "pixel_random_sampling_size": 1,
    "grid_channels": 1,
}
# The same for numbers of an encoder's configuration, or lists of them.
LEAST_OF_ENCODERS = {
    "hidden_size": 1,
    "hidden_sizes": 1,
    "embedding_size": 1,
    "intermediate_size": 1,
    "depths": 1,
    "num_hidden_layers": 0,
    "num_attention_heads": 1,
    "num_channels": 1,
    "vocab_size": 1,
    "max_position_embeddings": 1,
    "type_vocab_size": 1,
    "hidden_dropout_prob": 0,
    "attention_probs_dropout_prob": 0,
    "initializer_range": 0,
    "layer_norm_eps": 0,
}
# What a field's value must be, by the field's type.
KINDS = {
    int: "a whole number",
    int | None: "a whole number or None",
    float | int: "a number",
    bool: "True or False",
    list[str] | tuple[str, ...]: "a list of texts",
    PreTrainedConfig | dict | None: "a configuration or a dictionary of its fields",
}
# What Transformers and its tools write into any configuration beside its fields.
NAMES_OF_TRANSFORMERS = (
    "attn_implementation",
    "auto_map",
    "bos_token_id",
    "custom_pipelines",
    "decoder_start_token_id",
    "eos_token_id",
    "experts_implementation",
    "finetuning_task",
    "is_decoder",
    "model_type",
    "name_or_path",
    "num_labels",
    "output_attentions",
    "pad_token_id",
    "per_layer_config",
    "pruned_heads",
    "quantization_config",
    "sep_token_id",
    "task_specific_params",
    "tf_legacy_loss",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "trust_remote_code",
    "use_bfloat16",
    "use_cache",
)


def refuse_unknown_names(owner: str, given: Iterable[str], names: list[str], also: tuple[str, ...] = ()) -> None:
    """Raises a `ValueError` that says the nearest right name, if one of those given is unknown to the owner."""
    for name in given:
        if name not in names and name not in also and not name.startswith("_"):
            (nearest,) = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
            raise ValueError(f"{owner} has no field {name!r}. Did you mean {nearest!r}?")


def check_dtype(dtype: Any) -> None:
    """Raises a `ValueError` unless something is a dtype of torch, or the name of one."""
    if not isinstance(getattr(torch, dtype, None) if isinstance(dtype, str) else dtype, torch.dtype):
        known = ("float32", "float16", "bfloat16", "float64")
        nearest = difflib.get_close_matches(str(dtype), known, n=1)
        advice = f"Did you mean {nearest[0]!r}?" if nearest else f"Give one of {', '.join(known)}."
        raise ValueError(f"There is no dtype {dtype!r}. {advice}")


def pretrained_encoder_config(name: str, changes: Mapping[str, Any] | None = None) -> PreTrainedConfig:
    r"""
    The configuration of a pretrained encoder, with fields changed: another dropout, fewer layers.

    Args:
        name (`str`): Hub name or folder of the encoder, or of a model with a vision tower, which is taken.
        changes (`Mapping[str, Any]`, *optional*): Fields over the encoder's own.

    Raises:
        `ValueError`: If the encoder has no such field, or is of another model type than the one that is given.
    """
    config = AutoConfig.from_pretrained(name)
    config = getattr(config, "vision_config", config)
    fields_of_encoder = dict(changes or {})
    model_type = fields_of_encoder.pop("model_type", config.model_type)
    if model_type != config.model_type:
        raise ValueError(f"{name} is a {config.model_type!r} model; its model type cannot be {model_type!r}.")
    refuse_unknown_names(f"The {model_type!r} model {name}", fields_of_encoder, sorted(config.to_dict()))
    config.update(fields_of_encoder)
    return config


def _check_answers(id2label: Any) -> None:
    """Raises a `ValueError` unless an answer vocabulary maps 0, 1, 2, ... to texts that differ."""
    if not isinstance(id2label, Mapping) or not all(str(index).isdecimal() for index in id2label):
        raise ValueError(f'id2label must be a dictionary such as {{0: "cat", 1: "dog"}}; got {id2label!r:.100}.')
    ids, answers = sorted(int(index) for index in id2label), list(id2label.values())
    if ids != list(range(len(ids))):
        raise ValueError(f"The keys of id2label must be 0 to {len(ids) - 1}, each once; got {ids[:10]}.")
    no_text = [answer for answer in answers if not isinstance(answer, str) or not answer.strip()]
    if no_text:
        raise ValueError(f"The answers of id2label must be texts that are not blank; got {no_text[0]!r}.")
    if len(set(answers)) < len(answers):
        repeated = min(answer for answer, times in Counter(answers).items() if times > 1)
        raise ValueError(f"id2label has the answer {repeated!r} more than once; each answer must have one id.")


def _is_finite(value: float | int) -> bool:
    """Whether a number is one that a float can hold."""
    return abs(value) <= sys.float_info.max


def _check_encoder(part: str, config: PreTrainedConfig) -> None:
    """Raises a `ValueError` if a number of an encoder's configuration is none that it can have."""
    for name, value in config.to_dict().items():
        least = LEAST_OF_ENCODERS.get(name, -math.inf)
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            if not _is_finite(number):
                raise ValueError(f"{name} of {part} must be a finite number; got {number!s:.20}.")
            if number < least:
                raise ValueError(f"{name} of {part} must be {least} or more; got {number}.")
    act = getattr(config, "hidden_act", None)
    if isinstance(act, str) and act not in ACT2FN:
        (nearest,) = difflib.get_close_matches(act, list(ACT2FN), n=1, cutoff=0.0)
        raise ValueError(f"hidden_act of {part} is {act!r}, which does not exist. Did you mean {nearest!r}?")


class SiaSamReaConfigError(StrictDataclassFieldValidationError, ValueError):
    """Raised when a field has a value of another type than its own, or a word that it does not know."""

    def __init__(self, message: str):
        Exception.__init__(self, message)


def with_sentences(config_class: type["SiaSamReaConfig"]) -> type["SiaSamReaConfig"]:
    """Lets a configuration say in one sentence what `strict` refuses when a field is set."""
    set_strictly = config_class.__setattr__
    hints = {field.name: field.type for field in fields(config_class)}

    def set_with_sentence(self, name: str, value: Any) -> None:
        try:
            set_strictly(self, name, value)
        except StrictDataclassFieldValidationError as error:
            hint = hints[name]
            words = f"one of {', '.join(map(repr, get_args(hint)))}" if get_origin(hint) is Literal else None
            kind = words or KINDS.get(hint) or " ".join(str(error).split())
            raise SiaSamReaConfigError(f"{name} must be {kind}; got {value!r}.") from None

    config_class.__setattr__ = set_with_sentence
    return config_class


@with_sentences
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
        affinity_temperature (`float`, *optional*, defaults to 1.0):
            Temperature of the softmax of equation 2. Paper: none, that is 1.0. Decision: offered, because cosines in
            [-1, 1] leave the affinity close to uniform at 1.0.
        reasoning_weights (`str`, *optional*, defaults to `"learned"`):
            W1 and W2 of equations 3 to 5. `"learned"`: trainable (paper), each a softmax over N free parameters
            (decision: keeps the soft label a distribution). `"uniform"` and `"anchor"` are fixed.
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
        siamese_chunk_size (`int`, *optional*, defaults to 1):
            Siamese clips that are run in one pass. Decision: 1, the least memory; more can be faster on a GPU.
        siamese_bfloat16 (`bool`, *optional*, defaults to `False`):
            Whether siamese clips that need no gradient run in bfloat16 in training, in about half the time on a
            processor that has it; the anchor clip keeps its precision. Decision: `False`, the same numbers everywhere.
        freeze_batch_norm (`bool`, *optional*, defaults to `True`):
            Whether the image encoder's batch norms keep their statistics and parameters (ClipBERT).
        fold_batch_norm (`bool`, *optional*, defaults to `True`):
            Whether frozen batch norms run inside the convolutions before them: faster, the same numbers but for
            rounding (decision). `False` runs each on its own, which gives ClipBERT's numbers to the last digits.
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
        `ValueError`: If a field has a value outside its range; the message names the field and the range.

    Example:

    ```python
    >>> from modeling_siasamrea import SiaSamReaConfig, SiaSamReaForVideoQuestionAnswering

    >>> config = SiaSamReaConfig(tasks=["open_ended", "count"], id2label={0: "cat", 1: "dog"})
    >>> model = SiaSamReaForVideoQuestionAnswering(config)
    ```"""

    model_type = "siasamrea"
    sub_configs_defaults = {
        "vision_config": SubConfigSpec(
            config_class=AutoConfig, model_type="resnet", init_kwargs={"downsample_in_bottleneck": True}
        ),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="bert"),
    }
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
    num_clips: int = 9
    alpha: float | int = 1.0
    omega: float | int = 0.5
    affinity: Literal["knowledge", "average"] = "knowledge"
    affinity_temperature: float | int = 1.0
    reasoning_weights: Literal["learned", "uniform", "anchor"] = "learned"
    detach: Literal["targets", "none", "all"] = "targets"
    supervised_clips: Literal["anchor", "all", "mean", "max", "lse"] = "anchor"
    ensemble: Literal["mean", "max", "lse"] = "mean"
    count_range: list[int] | None = None
    multiple_choice_loss: Literal["hinge", "cross_entropy"] = "hinge"
    siamese_chunk_size: int = 1
    siamese_bfloat16: bool = False
    freeze_batch_norm: bool = True
    fold_batch_norm: bool = True
    frozen_image_encoder_modules: list[str] | tuple[str, ...] = ()
    classifier_hidden_scale: int = 2
    max_grid_rows: int = 100
    max_grid_columns: int = 100
    pixel_random_sampling_size: int | None = None
    tie_word_embeddings: bool = True
    grid_channels: int | None = None

    def __post_init__(self, **kwargs):
        # Where the package is installed it registers the pipeline itself, and no code is fetched from a checkpoint.
        if not self.__module__.startswith("transformers_modules"):
            kwargs.pop("custom_pipelines", None)
        refuse_unknown_names("SiaSamReaConfig", kwargs, self._names(), NAMES_OF_TRANSFORMERS)
        for part in self.sub_configs_defaults:
            if isinstance(getattr(self, part), dict):
                self._check_names_of_part(part, getattr(self, part))
        self.tasks = list(self.tasks)
        self.frozen_image_encoder_modules = list(self.frozen_image_encoder_modules)
        if self.id2label is None and self.label2id is not None:
            self.id2label = {index: answer for answer, index in self.label2id.items()}
        num_labels, given = kwargs.get("num_labels"), self.id2label
        try:
            super().__post_init__(**kwargs)
        except SiaSamReaConfigError:
            raise
        except StrictDataclassError as error:  # of an encoder's configuration
            raise SiaSamReaConfigError(f"An encoder cannot be configured: {' '.join(str(error).split())}.") from None
        if self.label2id is None:
            self.label2id = {answer: index for index, answer in self.id2label.items()}
        if given is not None and num_labels not in (None, len(given)):
            raise ValueError(
                f"num_labels is {num_labels}, but id2label has {len(given)} answers. Give id2label alone."
            )
        self.check()
        vars(self)["_settled"] = True  # from here on, new answers bring their ids along

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets a field; a word that is almost a field's name is refused, for nothing would read it."""
        if not hasattr(type(self), name):
            self._refuse_misspelt([name])
        self._check_range(name, value)
        if name == "id2label" and value is not None:
            _check_answers(value)
        super().__setattr__(name, value)
        if name == "id2label" and value is not None and vars(self).get("_settled"):
            self.label2id = {answer: int(index) for index, answer in value.items()}

    @classmethod
    def _names(cls) -> list[str]:
        return [field.name for field in fields(cls)]

    @classmethod
    def _refuse_misspelt(cls, given: Iterable[str]) -> None:
        """Refuses a name that is almost a field's, where Transformers may have others of its own."""
        names = [*cls._names(), *NAMES_OF_TRANSFORMERS]
        almost = [name for name in given if name not in names and difflib.get_close_matches(name, names, cutoff=0.8)]
        refuse_unknown_names("SiaSamReaConfig", almost, cls._names())

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs) -> "SiaSamReaConfig":
        """The configuration of a dictionary, with `kwargs` over it; a name that no field has is refused."""
        if kwargs.get("return_unused_kwargs"):  # other names are for the caller, a model
            cls._refuse_misspelt(kwargs)
        else:
            refuse_unknown_names("SiaSamReaConfig", kwargs, cls._names(), NAMES_OF_TRANSFORMERS)
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ValueError(
                f"This is the configuration of a {model_type!r} model, not of a {cls.model_type!r} model."
            )
        for part in cls.sub_configs_defaults:
            if isinstance(kwargs.get(part), dict):
                cls._check_names_of_part(part, kwargs[part])
        made = super().from_dict(config_dict, **kwargs)
        (made[0] if isinstance(made, tuple) else made).check()  # fields of `kwargs` were set one by one
        return made

    @classmethod
    def _dict_from_json_file(cls, json_file: str | os.PathLike) -> dict[str, Any]:
        settings = super()._dict_from_json_file(json_file)
        if not isinstance(settings, dict):
            raise ValueError(f"The configuration {json_file} must be a JSON object of fields; it is {settings!r:.60}.")
        return settings

    @classmethod
    def _check_names_of_part(cls, part: str, given: dict[str, Any]) -> None:
        """Refuses a misspelt name of an encoder's configuration, which may else hold names of older checkpoints."""
        specification = cls.sub_configs_defaults[part]
        config_class = specification.get_config_class(given.get("model_type", specification.model_type))
        names = [field.name for field in fields(config_class)]
        known = {*names, *dir(config_class), *config_class.attribute_map}  # properties too, as out_indices is
        for name in (name for name in given if name not in known):
            meant = difflib.get_close_matches(name, names, n=1, cutoff=0.85)
            if meant and meant[0] not in given:
                raise ValueError(f"{part} has no field {name!r}. Did you mean {meant[0]!r}?")

    def to_dict(self) -> dict[str, Any]:
        """The fields, with what a checkpoint says of the code that travels with it."""
        settings = super().to_dict() | {"auto_map": dict(AUTO_MAP), "custom_pipelines": CUSTOM_PIPELINES}
        return {name: value for name, value in settings.items() if name != "_settled"}

    def check(self) -> None:
        """
        Raises a `ValueError` if fields do not fit each other, wherever they were set: the model and the Trainer ask.
        """
        _check_answers(self.id2label)
        if {answer: int(index) for answer, index in self.label2id.items()} != {
            answer: index for index, answer in self.id2label.items()
        }:
            raise ValueError("label2id must be id2label the other way round. Give id2label alone, and it will be.")
        for part in self.sub_configs_defaults:
            _check_encoder(part, getattr(self, part))
        lacking = [name for name in ("hidden_dropout_prob", "layer_norm_eps") if not hasattr(self.text_config, name)]
        if lacking:
            raise ValueError(
                f"The text model must be of BERT's architecture; a {self.text_config.model_type!r} model has no "
                f"{lacking[0]}."
            )
        if self.siamese_clips_trained and self.num_clips < 2:
            raise ValueError(
                "Siamese reasoning needs at least 2 clips, an anchor and a siamese clip; got "
                f"num_clips={self.num_clips}. Set alpha=0 to train the baseline on the anchor clip alone."
            )

    @staticmethod
    def _check_range(name: str, value: Any) -> None:
        """Raises a `ValueError` if a value is not one that the field can have."""
        if name == "num_labels" and not (type(value) is int and value >= 1):
            raise ValueError(f"num_labels must be a whole number from 1; got {value!r}.")
        if name == "tasks" and (set(value) - set(TASKS) or len(set(value)) < len(value)):
            raise ValueError(f"tasks must be among {list(TASKS)}, each once; got {list(value)}.")
        if name == "dtype" and value is not None:
            check_dtype(value)
        if name not in LEAST or not isinstance(value, int | float):
            return
        if not _is_finite(value):
            raise ValueError(f"{name} must be a finite number; got {value!s:.20}.")
        if name == "omega" and not 0 <= value <= 1:
            raise ValueError(f"omega weighs propagated against own knowledge and must lie in [0, 1]; got {value}.")
        if name == "affinity_temperature" and value <= 0:
            raise ValueError(f"affinity_temperature must be above 0; got {value}.")
        if value < LEAST[name]:
            raise ValueError(f"{name} must be {LEAST[name]} or more; got {value}.")

    @property
    def siamese_clips_trained(self) -> bool:
        """Whether training runs the siamese clips at all: for their soft label, or because they are supervised."""
        return self.alpha > 0 or self.supervised_clips != "anchor"


__all__ = ["SiaSamReaConfig"]
