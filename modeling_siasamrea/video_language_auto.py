"""Loads the video-language models that the pipeline takes; a module of its own, because the package imports it."""

from transformers import AutoModelForImageTextToText, PreTrainedModel


class AutoVideoLanguageModel(AutoModelForImageTextToText):
    """Names an adapter's model after the adapter; `pipeline()` itself tells only of the model that it is over."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, *args, **kwargs) -> PreTrainedModel:
        """Loads a model, or an adapter over the model that it names."""
        model = AutoModelForImageTextToText.from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model.name_or_path = str(pretrained_model_name_or_path)
        return model


__all__ = ["AutoVideoLanguageModel"]
