"""The arguments of a model's constructor, with which a checkpoint makes the model again."""

from collections.abc import Mapping
from typing import Any


def constructor_arguments(scope: Mapping[str, Any], without: str = "") -> dict[str, Any]:
    """The arguments of a constructor, given its `locals()` before it has any other variables.

    without: an argument that is left out.
    """
    return {name: value for name, value in scope.items() if name not in ("self", "__class__", without)}
