"""The pipeline of a checkpoint of either kind of model, for the commands and the page."""

from pathlib import Path

from transformers import Pipeline, PreTrainedModel, pipeline

from ..conversion.for_cpus import speed_up_on_cpu
from ..modeling_siasamrea import SiaSamReaForVideoQuestionAnswering
from ..processors.processing_siasamrea import SiaSamReaProcessor
from ..training.start import explained
from ..video_language.loading import is_video_language_model, load_video_language_model
from ..video_language.processing import VideoLanguageProcessor
from .parser import ArgumentParser


CHECKPOINT = "outputs/quickstart"  # what the commands load by default


def add_model_options(parser: ArgumentParser) -> None:
    """Adds the options of a model to a command: those of [`load_model`]."""
    parser.add_argument("--base_model", help="base model of an adapter, if it moved")
    parser.add_argument("--settings", help="another settings file of a video-language model")


def load_model(
    checkpoint: str | Path, base_model: str | None = None, settings: str | None = None
) -> tuple[PreTrainedModel, SiaSamReaProcessor | VideoLanguageProcessor]:
    r"""
    Loads the model of a checkpoint of either kind, with its processor.

    Args:
        checkpoint (`str` or `Path`): Hub name or folder of a checkpoint, a video-language model, or an adapter.
        base_model (`str`, *optional*): Base model of an adapter, instead of the one that it names.
        settings (`str`, *optional*): A settings file of a video-language model, instead of the one beside it.

    Returns:
        `tuple`: the model (a `PeftModel` for an adapter) and its processor.

    Raises:
        `ValueError`: If it cannot be loaded.
    """
    if checkpoint == CHECKPOINT and not Path(CHECKPOINT).exists():
        raise ValueError(f"There is no {CHECKPOINT}: give --model, or make it by `siasamrea train quickstart`.")
    with explained(f"The checkpoint {checkpoint} cannot be loaded", checkpoint):
        if is_video_language_model(checkpoint):
            return load_video_language_model(checkpoint, base_model=base_model, settings_file=settings)
        if settings is not None:
            raise ValueError("--settings is for video-language models; a SiaSamRea checkpoint has its own.")
        model = SiaSamReaForVideoQuestionAnswering.from_pretrained(checkpoint, base_model=base_model)
        return model, SiaSamReaProcessor.from_pretrained(checkpoint)


def load_answerer(checkpoint: str | Path, base_model: str | None = None, settings: str | None = None) -> Pipeline:
    r"""
    Loads the pipeline of a checkpoint, see [`load_model`], on a GPU if there is one.

    Raises:
        `ValueError`: If it cannot be loaded.
    """
    # The model itself, not its name: the pipeline would put a traceback into its message.
    model, processor = load_model(checkpoint, base_model, settings)
    speed_up_on_cpu(model)
    return pipeline("video-question-answering", model=model, processor=processor)
