"""The only torch: networks, training, inference and attribution, always in a process of their own."""

import sys
from types import ModuleType


class _Nothing(ModuleType):
    """A module whose every name is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


# Captum loads Matplotlib for drawings that nobody here asks it for: 0.9 s of CPU and 40 MB in every worker.
sys.modules.setdefault("captum.attr._utils.visualization", _Nothing("captum.attr._utils.visualization"))
