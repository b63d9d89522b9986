"""Numbered videos that the tests of decoding share: each is written once."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from numbered_videos import KINDS, write


@pytest.fixture(scope="session")
def numbered(tmp_path_factory) -> Callable[[str, str], Path]:
    """Writes a video of one of `KINDS` in a container, for reading only."""
    folder = tmp_path_factory.mktemp("numbered")

    @cache
    def make(kind: str, container: str) -> Path:
        codec, options, stream = KINDS[kind]
        return write(folder / f"{kind}.{container}", codec, options, **stream)

    return make
