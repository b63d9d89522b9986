"""SiaSamRea for Transformers: siamese sampling and reasoning for video question answering."""

import os
from importlib.metadata import version


# Read when torch is loaded: its threads wait awake for microseconds, not for a millisecond, in which they would keep
# the cores from the loader's workers.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForPreTraining,
    AutoModelForVisualQuestionAnswering,
    AutoProcessor,
    AutoVideoProcessor,
)
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_siasamrea import SiaSamReaConfig
from .memory_reuse import keep_freed_memory
from .modeling_siasamrea import SiaSamReaForVideoQuestionAnswering, SiaSamReaModel, SiaSamReaPreTrainedModel
from .modeling_siasamrea_pretraining import SiaSamReaForPreTraining
from .pipeline_siasamrea import VideoQuestionAnsweringPipeline
from .processors.processing_siasamrea import SiaSamReaProcessor
from .processors.video_processing_siasamrea import SiaSamReaVideoProcessor
from .video_language_auto import AutoVideoLanguageModel


__version__ = version("siasamrea")

keep_freed_memory()

AutoConfig.register("siasamrea", SiaSamReaConfig)
AutoModel.register(SiaSamReaConfig, SiaSamReaModel)
AutoModelForPreTraining.register(SiaSamReaConfig, SiaSamReaForPreTraining)
AutoModelForVisualQuestionAnswering.register(SiaSamReaConfig, SiaSamReaForVideoQuestionAnswering)
AutoProcessor.register(SiaSamReaConfig, SiaSamReaProcessor)
AutoVideoProcessor.register(SiaSamReaConfig, SiaSamReaVideoProcessor)
PIPELINE_REGISTRY.register_pipeline(
    "video-question-answering",
    pipeline_class=VideoQuestionAnsweringPipeline,
    pt_model=AutoModelForVisualQuestionAnswering,
    type="multimodal",
)
# A saved checkpoint names the model's class of the registration above; here the pipeline loads other models too.
PIPELINE_REGISTRY.supported_tasks["video-question-answering"] = {
    **PIPELINE_REGISTRY.supported_tasks["video-question-answering"],
    "pt": (AutoModelForVisualQuestionAnswering, AutoVideoLanguageModel),
}

# Saved checkpoints take the code along, so that they load with `trust_remote_code=True` without this package.
SiaSamReaConfig.register_for_auto_class()
SiaSamReaModel.register_for_auto_class("AutoModel")
SiaSamReaForVideoQuestionAnswering.register_for_auto_class("AutoModelForVisualQuestionAnswering")
SiaSamReaProcessor.register_for_auto_class()
SiaSamReaVideoProcessor.register_for_auto_class()

__all__ = [
    "SiaSamReaConfig",
    "SiaSamReaForPreTraining",
    "SiaSamReaForVideoQuestionAnswering",
    "SiaSamReaModel",
    "SiaSamReaPreTrainedModel",
    "SiaSamReaProcessor",
    "SiaSamReaVideoProcessor",
    "VideoQuestionAnsweringPipeline",
]
