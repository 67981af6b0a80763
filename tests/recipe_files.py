"""A recipe of one task in a file, and the message if the recipe is refused."""

from pathlib import Path

import pytest

from mtbert.recipe.files import load_recipe

ONE = "tasks: {a: {type: ordinal, inputs: single, train: a.csv}}\n"


def write(folder: Path, content: str | bytes, name: str = "mine.yaml") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def refusal(folder: Path, content: str | bytes, *overrides: str, error: type[Exception] = ValueError) -> str:
    """Returns the message that refuses a recipe, without the folder of the file."""
    with pytest.raises(error) as caught:
        load_recipe(write(folder, content), overrides)
    return str(caught.value).replace(f"{folder}/", "")
