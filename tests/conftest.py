"""Fixtures that several test files share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from modeling_siasamrea import SiaSamReaConfig


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of research videos, annotations and reference tensors that lies beside the repository on some machines."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "videos").is_dir():
        pytest.skip("the folder of shared research files is not on this machine")
    return folder


@pytest.fixture
def tiny_config() -> Callable[..., SiaSamReaConfig]:
    """A configuration of a model small enough to run in milliseconds; keyword arguments override its fields."""

    def make(**fields) -> SiaSamReaConfig:
        vision = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 8, 16, 32], "depths": [1, 1, 1, 1]}
        text = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        text |= {"intermediate_size": 48, "vocab_size": 200, "max_position_embeddings": 64}
        text |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        defaults = {"vision_config": vision, "text_config": text, "num_clips": 3}
        return SiaSamReaConfig(**(defaults | fields))

    return make
