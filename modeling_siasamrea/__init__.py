"""SiaSamRea for Transformers: siamese sampling and reasoning for video question answering."""

from transformers import AutoConfig, AutoModel, AutoModelForVisualQuestionAnswering

from .configuration_siasamrea import SiaSamReaConfig
from .modeling_siasamrea import SiaSamReaForVideoQuestionAnswering, SiaSamReaModel, SiaSamReaPreTrainedModel


AutoConfig.register("siasamrea", SiaSamReaConfig)
AutoModel.register(SiaSamReaConfig, SiaSamReaModel)
AutoModelForVisualQuestionAnswering.register(SiaSamReaConfig, SiaSamReaForVideoQuestionAnswering)

__all__ = [
    "SiaSamReaConfig",
    "SiaSamReaForVideoQuestionAnswering",
    "SiaSamReaModel",
    "SiaSamReaPreTrainedModel",
]
