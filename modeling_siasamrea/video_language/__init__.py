"""Siamese sampling and reasoning for the video-language models of `AutoModelForImageTextToText`."""

from ..training.lora import add_lora
from .processing import VideoLanguageProcessor
from .settings import SETTINGS_NAME, VideoLanguageSettings


__all__ = ["SETTINGS_NAME", "VideoLanguageProcessor", "VideoLanguageSettings", "add_lora"]
