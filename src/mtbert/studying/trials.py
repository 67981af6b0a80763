"""The trials of a hyperparameter search (``mtbert tune``), stored as an Optuna study in a database.

By default, the database is the SQLite file ``tune.db``. If the user gives the URL of another database, the file
``storage.json`` holds this URL without its password. Optuna's errors become one-line messages, which show no password.
"""

import errno
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtbert import files
from mtbert.advice import option
from mtbert.json_files import read_settings, write_settings
from mtbert.messages import clean, reason, shown
from mtbert.settings import Settings

if TYPE_CHECKING:
    import optuna
    from sqlalchemy import URL

TRIALS = "trials"  # the folder with a folder for each trial
DATABASE = "tune.db"
STORAGE_FILE = "storage.json"
EXAMPLE = "postgresql://USER@HOST/DATABASE"
NO_ROOM = ("database or disk is full", "disk I/O error")  # SQLite's words for a full disk and for a used-up quota


class StorageRecord(Settings):
    """The content of ``storage.json``, which says where ``mtbert tune`` stores the trials of a search.

    The file holds the URL of a database, and the name of the Optuna study in this database that contains the trials.
    """

    url: str  # without password
    study: str


@dataclass(frozen=True)
class TrialStorage:
    """The database with the trials of the folder ``out``. ``url`` is None for the file ``tune.db`` in this folder.

    Raises:
        ValueError: If ``url`` is no URL.
    """

    out: Path
    url: str | None = field(repr=False)  # it may hold a password

    def __post_init__(self) -> None:
        if self.url is not None:
            _parsed(self.url)

    @property
    def file(self) -> Path:
        """Returns the path of ``tune.db``."""
        return self.out / DATABASE

    @cached_property
    def name(self) -> str:
        """The name of the database in messages."""
        return str(self.file) if self.url is None else _without_secrets(_parsed(self.url))

    @contextmanager
    def opened(self) -> Iterator["optuna.Study"]:
        """Yields the Optuna study that contains the trials. Creates the study if there are no trials yet.

        If the database fails inside the ``with`` block, a ValueError or an OSError is raised. Its message is one line,
        and names the database.
        """
        with self._errors(), ExitStack() as stack:
            yield self._study(stack)

    def _study(self, stack: ExitStack) -> "optuna.Study":
        record = self.out / STORAGE_FILE
        found = read_settings(record, StorageRecord, "Give another folder.") if record.is_file() else None
        if self.url is None:
            if found is not None:
                raise ValueError(f"{self.out}: its trials are in {clean(found.url)}. Give it with {option('storage')}.")
            return self._study_in_file(stack)
        if self.file.exists():
            raise ValueError(
                f"{self.out}: its trials are in {self.file}. Drop {option('storage')}, or give another folder."
            )
        storage = stack.enter_context(self._connected())
        if found is None:
            if (self.out / TRIALS).exists():  # new trials would go on with the runs of these
                raise ValueError(
                    f"{record}: not there, although there are trials. Put it back, or give another folder."
                )
            found = StorageRecord(url=self.name, study=f"mtbert-{secrets.token_hex(8)}")
            study = _create(storage, found.study)
            write_settings(record, found)  # if it is not written, nobody looks for the trials in the database
            return study
        import optuna

        try:
            return optuna.load_study(storage=storage, study_name=found.study, pruner=optuna.pruners.MedianPruner())
        except KeyError:
            raise ValueError(
                f"{self.name}: has no trials of {self.out}, which are in {clean(found.url)}. Give that one."
            ) from None

    def _study_in_file(self, stack: ExitStack) -> "optuna.Study":
        from sqlalchemy import URL

        if (self.out / TRIALS).exists() and not self.file.is_file():
            raise ValueError(f"{self.file}: not there, although there are trials. Put it back, or give another folder.")
        try:
            url = URL.create("sqlite", database=str(files.resolved(self.file))).render_as_string()
        except UnicodeEncodeError:
            said = f"{shown(str(self.file))}: SQLite takes only UTF-8 in the name. Give another folder."
            raise ValueError(said) from None
        try:
            return _create(stack.enter_context(_storage(url)), "mtbert")
        except (RuntimeError, AssertionError) as error:  # a database of something else
            raise ValueError(_damaged(self.file, error)) from None

    @contextmanager
    def _connected(self) -> Iterator["optuna.storages.RDBStorage"]:
        """Yields the database at the URL."""
        from sqlalchemy import NullPool
        from sqlalchemy.exc import NoSuchModuleError

        assert self.url is not None
        url = _parsed(self.url)
        with ExitStack() as stack:
            try:
                # A new connection each time, because a server or a firewall closes those that wait for hours.
                full = url.render_as_string(hide_password=False)
                storage = stack.enter_context(_storage(full, poolclass=NullPool))
            except NoSuchModuleError:
                kind = clean(url.drivername)
                raise ValueError(
                    f"{option('storage')}: {kind} is no database that is known. Give for example "
                    f"{option('storage', EXAMPLE)}"
                ) from None
            except ImportError:
                raise ValueError(
                    f"{option('storage')}: the driver of {clean(url.drivername)} is not installed. "
                    "Run: pip install 'mtbert[tune]', which has the one of postgresql."
                ) from None
            except (RuntimeError, AssertionError) as error:  # tables of something else, or of another Optuna
                raise ValueError(f"{self.name}: {self._said(error)}. Give another database.") from None
            yield storage

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from optuna.exceptions import OptunaError, TrialPruned
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except TrialPruned:
            raise
        except (OptunaError, SQLAlchemyError) as error:
            first = error if isinstance(error, SQLAlchemyError) else error.__cause__ or error
            first = getattr(first, "orig", None) or first
            if self.url is not None:
                raise ConnectionError(
                    f"{self.name}: {self._said(first)}. Check {option('storage')} and the server, and start again."
                ) from None
            if any(said in str(first) for said in NO_ROOM):
                raise OSError(errno.ENOSPC, reason(first), str(self.file)) from None
            raise ValueError(_damaged(self.file, first)) from None

    def _said(self, error: BaseException) -> str:
        """Returns the first line of an error of the database, without the password in the URL."""
        assert self.url is not None
        url, said = _parsed(self.url), reason(error)
        for secret in (url.password, *(value for values in url.normalized_query.values() for value in values)):
            said = said.replace(str(secret), "***") if len(str(secret or "")) > 3 else said
        return said


@contextmanager
def _storage(url: str, **options: Any) -> Iterator["optuna.storages.RDBStorage"]:
    """Yields Optuna's storage in a database, and closes its connections at the end."""
    import optuna

    storage = optuna.storages.RDBStorage(url, engine_kwargs=options)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _create(storage: "optuna.storages.RDBStorage", study: str) -> "optuna.Study":
    import optuna

    return optuna.create_study(
        storage=storage,
        study_name=study,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(),
        load_if_exists=True,
    )


def _parsed(url: str) -> "URL":
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url)
    except (ArgumentError, ValueError):  # the message must not show the URL, which may hold a password
        raise ValueError(
            f"{option('storage')}: must be the URL of a database. Give for example {option('storage', EXAMPLE)}"
        ) from None


def _without_secrets(url: "URL") -> str:
    text = url.set(query={}).render_as_string(hide_password=True)
    return clean(text)[:200]


def _damaged(file: Path, error: BaseException) -> str:
    return f"{file}: damaged ({reason(error)}). Put the old file back, or give another folder."
