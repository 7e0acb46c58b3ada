"""What is common to all recipes: the folder with its recipe.yaml, and how a wrong one is told.

Knows nothing of the kinds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import ImageError


class Recipe(BaseModel):
    """The root of all kinds of recipe: unknown keys are errors, and nothing changes after it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


R = TypeVar("R", bound=Recipe)


def check(model: type[R], recipe: dict[str, Any], folder: Path) -> R:
    """What recipe.yaml says, as a model.

    Args:
        model: the kind's model.
        recipe: the YAML's data.
        folder: the recipe's folder, for the error.

    Raises:
        ImageError: a key or value is wrong; the text names the file and the key.
    """
    try:
        return model.model_validate(recipe)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ImageError(f"{folder / 'recipe.yaml'}: {where}: {first['msg']}") from error
