"""The Auto classes by which `pipeline("video-question-answering", model="folder")` loads a model."""

from transformers import AutoModelForImageTextToText, AutoModelForVisualQuestionAnswering, PreTrainedModel

from .conversion.for_cpus import speed_up_on_cpu


class AutoFastVideoQuestionAnswering(AutoModelForVisualQuestionAnswering):
    """Loads the models of `pipeline("video-question-answering", model="folder")`."""

    @classmethod
    def from_pretrained(cls, *args, **kwargs) -> PreTrainedModel:
        """Loads a model and makes it faster, see [`speed_up_on_cpu`]."""
        model = AutoModelForVisualQuestionAnswering.from_pretrained(*args, **kwargs)
        speed_up_on_cpu(model)
        return model


class AutoVideoLanguageModel(AutoModelForImageTextToText):
    """Names an adapter's model after the adapter; `pipeline()` itself tells only of the model that it is over."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, *args, **kwargs) -> PreTrainedModel:
        """Loads a model, or an adapter over the model that it names."""
        model = AutoModelForImageTextToText.from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model.name_or_path = str(pretrained_model_name_or_path)
        return model
