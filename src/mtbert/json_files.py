"""Reads JSON files, and writes settings as JSON.

Other programs may have written the files, so there are limits on a file's size and nesting.
"""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from mtbert import files
from mtbert.messages import reason
from mtbert.settings import Settings, explain, tuples

LARGEST_JSON = 64 * 2**20  # bytes
DEEPEST_JSON = 100  # levels of nesting; copying and writing a value again takes three stack frames per level

_Settings = TypeVar("_Settings", bound=Settings)


def read_json(file: Path, repair: str, largest: int = LARGEST_JSON) -> Any:
    """Returns the value in a JSON file.

    Args:
        file: A regular file, encoded in UTF-8.
        repair: Advice on a missing or damaged file, such as "Download it again." It ends every error message.
        largest: The largest accepted size of the file, in bytes.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file cannot be read or is not JSON. The message names the file.
    """
    with files.repaired(file, repair):
        content = files.read_bytes(file, largest)
    try:
        value = json.loads(content)
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 at byte {error.start}. {repair}") from None
    except RecursionError:
        raise ValueError(f"{file}: not JSON that can be read (nested too deep). {repair}") from None
    except ValueError as error:
        raise ValueError(f"{file}: not JSON ({reason(error)}). {repair}") from None
    if _deeper(value, DEEPEST_JSON):
        raise ValueError(f"{file}: not JSON that can be read (nested too deep). {repair}")
    return value


def read_settings(file: Path, kind: type[_Settings], repair: str) -> _Settings:
    """Returns the settings of class ``kind`` that are stored in a JSON file.

    Every error message ends with ``repair``, which says what the user can do.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file cannot be read, or its content is not valid for ``kind``. The message names the file and
            the key.
    """
    value = read_json(file, repair)
    try:
        return kind.model_validate(tuples(value))
    except ValidationError as error:
        raise ValueError(f"{file}: damaged: {explain(error, value)[0]} {repair}") from None


def write_settings(file: Path, settings: Settings) -> None:
    """Writes settings to a JSON file atomically. :func:`read_settings` reads them back.

    Raises:
        OSError: If the disk fails. The error names ``file``, whose content is unchanged.
    """
    files.write_text(file, settings.model_dump_json(indent=2) + "\n")


def _deeper(value: Any, levels: int) -> bool:
    """Returns whether ``value`` has lists or mappings nested more than ``levels`` deep."""
    inside = [value]
    for _ in range(levels + 1):
        inside = [
            item
            for outer in inside
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not inside:
            return False
    return True
