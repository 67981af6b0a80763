"""Reading data sets from the Hugging Face hub, and from folders that the library ``datasets`` wrote."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mtbert.data.records import Record, Records
from mtbert.hub_client import hub_reason
from mtbert.messages import shown


@contextmanager
def opened_data_set(
    name: str, source: str, config: str | None, split: str | None, root: Path, wanted: Sequence[str]
) -> Iterator[Records]:
    """Yields the rows of a data set, with the values of the ``wanted`` columns.

    Class indices are replaced by class names, see :func:`named`.

    Args:
        name: The name that messages use for the data set.
        source: The id of the data set on the hub, or the path of a local folder.
        config: The configuration of the data set, or None for the default one.
        split: The split to read. It may be None only for a folder that ``Dataset.save_to_disk`` wrote.
        root: The folder from which a relative path in ``source`` starts.
        wanted: The columns to read.

    Raises:
        ValueError: If the data set cannot be loaded, or if it needs a split and ``split`` is None.
    """

    local = root / source
    if split is None and not (local / "state.json").is_file():
        raise ValueError(
            f"{name}: hub needs a split. Add split: train, or another one that the data set has. (Only a folder that "
            "Dataset.save_to_disk wrote has none.)"
        )
    try:
        data = _load(local, source, config, split)
    except Exception as error:  # the library raises whatever its many readers and its network stack raise
        raise ValueError(
            f"{name}: cannot be loaded ({hub_reason(error)}). Check hub, config and split, and the network."
        ) from None
    columns = list(data.column_names)
    data = data.select_columns([column for column in dict.fromkeys(wanted) if column in columns])
    classes = class_names(data.features)

    def rows() -> Iterator[Record]:
        for number, record in enumerate(data, 1):
            found = ((key, record.get(key)) for key in wanted)
            yield number, [named(value, classes[key]) if key in classes else value for key, value in found]

    yield Records(columns, rows(), unit="row")


def class_names(features: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """Returns a dict from column to class names, for the columns whose cells are class indices or lists of indices."""
    import datasets

    inner = {key: getattr(feature, "feature", feature) for key, feature in features.items()}
    return {key: feature.names for key, feature in inner.items() if isinstance(feature, datasets.ClassLabel)}


def named(value: Any, names: Sequence[str]) -> object:
    """Returns a cell with each class index replaced by the name of the class.

    None and -1, which means "no label", become None.

    >>> named([1, -1], ["no", "yes"])
    ['yes', None]
    """
    if value is None:
        return None
    if isinstance(value, list):
        return [named(item, names) for item in value]
    return names[value] if value >= 0 else None


def _load(local: Path, source: str, config: str | None, split: str | None) -> Any:
    import datasets

    if not (local / "state.json").is_file():
        return datasets.load_dataset(str(local) if local.is_dir() else source, config, split=split)
    data = datasets.load_from_disk(str(local))
    if split is not None and split != str(data.split):
        raise ValueError(f"it is one data set without splits, but split {shown(split)} was asked for; drop split")
    return data
