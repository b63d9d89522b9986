"""SiaSamRea for Transformers: siamese sampling and reasoning for video question answering."""

from importlib import import_module
from importlib.metadata import version
from typing import Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForPreTraining,
    AutoModelForVisualQuestionAnswering,
    AutoProcessor,
    AutoVideoProcessor,
)
from transformers.pipelines import PIPELINE_REGISTRY

from .auto_classes import AutoFastVideoQuestionAnswering, AutoVideoLanguageModel
from .configuration_siasamrea import SiaSamReaConfig
from .conversion.for_cpus import speed_up_on_cpu
from .modeling_siasamrea import (
    SiaSamReaForPreTraining,
    SiaSamReaForVideoQuestionAnswering,
    SiaSamReaModel,
    SiaSamReaPreTrainedModel,
)
from .pipeline_siasamrea import VideoQuestionAnsweringPipeline
from .processors.processing_siasamrea import SiaSamReaProcessor
from .processors.video_processing_siasamrea import SiaSamReaVideoProcessor


__version__ = version("siasamrea")

# Imported when they are first asked for: name, and the module that has it.
LAZY = {
    "FrameTimes": "processors.video_decoding",
    "SiaSamReaTrainer": "training.trainer",
    "SiaSamReaTrainingArguments": "training.arguments",
    "VideoClipDataset": "video_language.data",
    "VideoDecodingError": "processors.video_error",
    "VideoLanguagePipeline": "video_language.pipeline",
    "VideoLanguageProcessor": "video_language.processing",
    "VideoLanguageSettings": "video_language.settings",
    "VideoLanguageTrainer": "video_language.trainer",
    "VideoLanguageTrainingArguments": "video_language.trainer",
    "VideoQuestion": "data.questions",
    "VideoQuestionDataset": "data.dataset",
    "add_lora": "training.lora",
    "answer_dataset": "commands.answer_dataset",
    "answer_vocabulary": "data.vocabulary",
    "build_model": "training.start",
    "build_tokenizer": "data.vocabulary",
    "decode_frames": "processors.video_decoding",
    "inspect_video": "demo.inspection",
    "load_benchmark": "benchmarks",
    "load_metric": "evaluation.metrics",
    "load_video_language_model": "video_language.loading",
    "load_video_questions": "data.questions",
    "make_sample_data": "preparation.sample_data",
    "sample_clips": "processors.siamese_sampling",
    "siamese_knowledge_generation": "siamese_reasoning",
    "siamese_knowledge_reasoning": "siamese_reasoning",
    "siamese_loss": "loss_siasamrea",
}

AutoConfig.register("siasamrea", SiaSamReaConfig)
AutoModel.register(SiaSamReaConfig, SiaSamReaModel)
AutoModelForPreTraining.register(SiaSamReaConfig, SiaSamReaForPreTraining)
AutoModelForVisualQuestionAnswering.register(SiaSamReaConfig, SiaSamReaForVideoQuestionAnswering)
AutoProcessor.register(SiaSamReaConfig, SiaSamReaProcessor)
AutoVideoProcessor.register(SiaSamReaConfig, SiaSamReaVideoProcessor)
VideoQuestionAnsweringPipeline.for_other_models = staticmethod(lambda: __getattr__("VideoLanguagePipeline"))
PIPELINE_REGISTRY.register_pipeline(
    "video-question-answering",
    pipeline_class=VideoQuestionAnsweringPipeline,
    pt_model=AutoModelForVisualQuestionAnswering,
    type="multimodal",
)
# A saved checkpoint names the Auto class of the registration above. Here the pipeline makes the models that it loads
# faster on a CPU, and loads other models too.
PIPELINE_REGISTRY.supported_tasks["video-question-answering"] = {
    **PIPELINE_REGISTRY.supported_tasks["video-question-answering"],
    "pt": (AutoFastVideoQuestionAnswering, AutoVideoLanguageModel),
}

# Saved checkpoints take the code along, so that they load with `trust_remote_code=True` without this package.
SiaSamReaConfig.register_for_auto_class()
SiaSamReaModel.register_for_auto_class("AutoModel")
SiaSamReaForVideoQuestionAnswering.register_for_auto_class("AutoModelForVisualQuestionAnswering")
SiaSamReaProcessor.register_for_auto_class()
SiaSamReaVideoProcessor.register_for_auto_class()


def __getattr__(name: str) -> Any:
    """Imports what is exported lazily (PEP 562)."""
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{LAZY[name]}", __name__), name)


def __dir__() -> list[str]:
    """Names of the module, with those that are exported lazily."""
    return sorted({*globals(), *LAZY})


__all__ = [
    "SiaSamReaConfig",
    "SiaSamReaForPreTraining",
    "SiaSamReaForVideoQuestionAnswering",
    "SiaSamReaModel",
    "SiaSamReaPreTrainedModel",
    "SiaSamReaProcessor",
    "SiaSamReaVideoProcessor",
    "VideoQuestionAnsweringPipeline",
    "speed_up_on_cpu",
    *LAZY,
]
