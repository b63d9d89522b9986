"""Siamese sampling and reasoning for the video-language models of `AutoModelForImageTextToText`."""

from .adapters import add_adapter
from .processing import VideoLanguageProcessor
from .settings import SETTINGS_NAME, VideoLanguageSettings
from .trainer import VideoLanguageTrainer, VideoLanguageTrainingArguments


__all__ = [
    "SETTINGS_NAME",
    "VideoLanguageProcessor",
    "VideoLanguageSettings",
    "VideoLanguageTrainer",
    "VideoLanguageTrainingArguments",
    "add_adapter",
]
