"""`import siasamrea` gives what `import modeling_siasamrea` gives. Installed as a module of its own."""

from typing import Any

import modeling_siasamrea
from modeling_siasamrea import __all__, __version__


def __getattr__(name: str) -> Any:
    """Looks a name up in `modeling_siasamrea`."""
    return getattr(modeling_siasamrea, name)


__all__ = [*__all__, "__version__"]
