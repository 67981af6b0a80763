"""The trials of a hyperparameter search (``mtbert tune``), stored as an Optuna study in an SQLite file.

Optuna's errors become one-line messages.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mtbert import files
from mtbert.messages import reason, shown

if TYPE_CHECKING:
    import optuna

STORAGE = "tune.db"
NO_ROOM = ("database or disk is full", "disk I/O error")  # SQLite's words for a full disk and for a used-up quota


def open_storage(out: Path) -> "optuna.Study":
    """Returns the Optuna study that is stored in the folder ``out``; creates it if there are no trials yet.

    Raises:
        ValueError: If the storage is damaged, or if it is missing although the folder already has trials.
    """
    import optuna
    from sqlalchemy import URL

    file = out / STORAGE
    if (out / "trials").exists() and not file.is_file():
        raise ValueError(f"{file}: not there, although there are trials. Put it back, or give another folder.")
    try:
        url = URL.create("sqlite", database=str(files.resolved(file))).render_as_string()
    except UnicodeEncodeError:
        raise ValueError(f"{shown(str(file))}: SQLite takes only UTF-8 in the name. Give another folder.") from None
    try:
        return optuna.create_study(
            storage=url,
            study_name="mtbert",
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(),
            load_if_exists=True,
        )
    except (RuntimeError, AssertionError) as error:  # a data base of something else
        raise ValueError(_damaged(file, error)) from None


@contextmanager
def storage_errors(out: Path) -> Iterator[None]:
    """A context manager that replaces errors of Optuna's storage with errors whose one-line message names the file.

    Raises:
        OSError: If the disk is full.
        ValueError: If the storage is damaged.
    """
    from optuna.exceptions import OptunaError, TrialPruned
    from sqlalchemy.exc import SQLAlchemyError

    file = out / STORAGE
    try:
        yield
    except TrialPruned:
        raise
    except (OptunaError, SQLAlchemyError) as error:
        first = error if isinstance(error, SQLAlchemyError) else error.__cause__ or error
        if any(said in str(first) for said in NO_ROOM):
            raise OSError(errno.ENOSPC, reason(getattr(first, "orig", first)), str(file)) from None
        raise ValueError(_damaged(file, getattr(first, "orig", first))) from None


def _damaged(file: Path, error: BaseException) -> str:
    return f"{file}: damaged ({reason(error)}). Put the old file back, or give another folder."
