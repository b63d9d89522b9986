"""SiaSamRea for Transformers: siamese sampling and reasoning for video question answering."""

from transformers import AutoConfig, AutoModel, AutoModelForVisualQuestionAnswering, AutoProcessor, AutoVideoProcessor

from .configuration_siasamrea import SiaSamReaConfig
from .modeling_siasamrea import SiaSamReaForVideoQuestionAnswering, SiaSamReaModel, SiaSamReaPreTrainedModel
from .processors.processing_siasamrea import SiaSamReaProcessor
from .processors.video_processing_siasamrea import SiaSamReaVideoProcessor


AutoConfig.register("siasamrea", SiaSamReaConfig)
AutoModel.register(SiaSamReaConfig, SiaSamReaModel)
AutoModelForVisualQuestionAnswering.register(SiaSamReaConfig, SiaSamReaForVideoQuestionAnswering)
AutoProcessor.register(SiaSamReaConfig, SiaSamReaProcessor)
AutoVideoProcessor.register(SiaSamReaConfig, SiaSamReaVideoProcessor)

__all__ = [
    "SiaSamReaConfig",
    "SiaSamReaForVideoQuestionAnswering",
    "SiaSamReaModel",
    "SiaSamReaPreTrainedModel",
    "SiaSamReaProcessor",
    "SiaSamReaVideoProcessor",
]
