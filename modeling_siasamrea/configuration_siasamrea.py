"""SiaSamRea model configuration."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec


TASKS = ("open_ended", "multiple_choice", "count")

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
        multiple_choice_loss (`str`, *optional*, defaults to `"hinge"`):
            `"hinge"`: summed pairwise hinge (paper). `"cross_entropy"` over the candidates (ClipBERT).
        siamese_chunk_size (`int`, *optional*, defaults to 1):
            Siamese clips that are run in one pass. Decision: 1, the least memory; more can be faster on a GPU.
        freeze_batch_norm (`bool`, *optional*, defaults to `True`):
            Whether the image encoder's batch norms keep their statistics and parameters (ClipBERT).
        fold_batch_norm (`bool`, *optional*, defaults to `True`):
            Whether frozen batch norms run inside the convolutions before them: faster, the same numbers but for
            rounding (decision). `False` runs each on its own, which gives ClipBERT's numbers to the last digits.
        frozen_image_encoder_modules (`list[str]`, *optional*, defaults to `[]`):
            Names of modules inside the image encoder whose parameters do not train, such as `"embedder"` and
            `"encoder.stages.0"` of a ResNet (ClipBERT freezes these two).
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
    multiple_choice_loss: Literal["hinge", "cross_entropy"] = "hinge"
    siamese_chunk_size: int = 1
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
        self.tasks = list(self.tasks)
        self.frozen_image_encoder_modules = list(self.frozen_image_encoder_modules)
        super().__post_init__(**kwargs)
        if self.label2id is None:
            self.label2id = {answer: index for index, answer in self.id2label.items()}
        self._check_ranges()

    def to_dict(self) -> dict[str, Any]:
        """The fields, with what a checkpoint says of the code that travels with it."""
        return super().to_dict() | {"auto_map": dict(AUTO_MAP), "custom_pipelines": CUSTOM_PIPELINES}

    def _check_ranges(self) -> None:
        unknown = [task for task in self.tasks if task not in TASKS]
        if unknown or len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks must be among {list(TASKS)}, each once; got {self.tasks}.")
        if not 0 <= self.omega <= 1:
            raise ValueError(
                f"omega weighs propagated against own knowledge and must lie in [0, 1]; got {self.omega}."
            )
        if self.alpha < 0:
            raise ValueError(f"alpha, the weight of the siamese loss, must be 0 or more; got {self.alpha}.")
        if self.affinity_temperature <= 0:
            raise ValueError(f"affinity_temperature must be above 0; got {self.affinity_temperature}.")
        for name in (
            "num_clips",
            "siamese_chunk_size",
            "classifier_hidden_scale",
            "max_grid_rows",
            "max_grid_columns",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more; got {getattr(self, name)}.")
        if self.siamese_clips_trained and self.num_clips < 2:
            raise ValueError(
                "Siamese reasoning needs at least 2 clips, an anchor and a siamese clip; got "
                f"num_clips={self.num_clips}. Set alpha=0 to train the baseline on the anchor clip alone."
            )

    @property
    def siamese_clips_trained(self) -> bool:
        """Whether training runs the siamese clips at all: for their soft label, or because they are supervised."""
        return self.alpha > 0 or self.supervised_clips != "anchor"


__all__ = ["SiaSamReaConfig"]
