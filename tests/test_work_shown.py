"""The pieces of work that long commands show: none that may take long is silent."""

from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Mtbert

from mtbert import progress_bar


@pytest.fixture
def shown(mtbert: Mtbert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Runs a command, and returns what it shows, in order and without repeats. Paths are cut to their names."""
    monkeypatch.setenv("MTBERT_CACHE", str(tmp_path / "cache"))  # nothing has been read before
    real, found = progress_bar._Work, []

    def work(console: object, what: str, *rest: object) -> object:
        words = [Path(word).name if "/" in word else word for word in what.split()]
        found.append(" ".join(words))
        return real(console, what, *rest)  # type: ignore[arg-type]

    def run(*arguments: object) -> list[str]:
        found.clear()
        done = mtbert(*arguments)
        assert done.code == 0, done
        return list(dict.fromkeys(found))

    monkeypatch.setattr(progress_bar, "_Work", work)
    return run


TABLE = ["hashing {}.csv", "reading {}.csv", "splitting {}.csv", "tokenising"]
READ = [line.format(name) for name in ("sst", "quora", "sts") for line in TABLE]
PREPARED = list(dict.fromkeys(["loading the weights of encoder", *READ]))


def test_training_shows_all_that_comes_before_its_first_step_and_after_its_last(
    shown: Callable[..., list[str]], toy: Path, tmp_path: Path
):
    found = shown("train", toy / "toy.yaml", "--out", tmp_path / "run", "--set", "tasks.quora.no_duplicates=true")
    assert [line for line in found if line not in READ] == [
        "loading the weights of encoder",
        "looking for equal texts",
        "comparing train with dev",
        "writing the report",
    ]
    assert set(READ) <= set(found)


def test_data_check_shows_what_it_counts_and_compares(shown: Callable[..., list[str]], toy: Path):
    found = shown("data", "check", toy / "toy.yaml")
    assert found[: len(PREPARED)] == PREPARED
    assert found[len(PREPARED) :] == [
        *(f"counting the tokens of {task}" for task in ("sst", "quora", "sts")),
        *(f"comparing the texts of {task}" for task in ("sst", "quora", "sts")),
    ]


def test_what_uses_a_model_shows_reading_answering_and_writing(
    shown: Callable[..., list[str]], toy: Path, tmp_path: Path
):
    given = ("--task", "sst", "--input", toy / "data/sst.csv", "--output", tmp_path / "out.csv")
    assert shown("predict", toy / "run", *given) == [
        "loading the weights of best",
        "reading sst.csv",
        "hashing sst.csv",
        "tokenising",
        "answering",
        "decoding the answers of sst",
        "writing out.csv",
    ]
    found = shown("export", toy / "run", "--to", "transformers", "--task", "sst", "--out", tmp_path / "out")
    assert found[-2:] == ["writing transformers", "comparing the answers of sst"]
    assert "answering" in shown("evaluate", toy / "run")


def test_resuming_shows_that_all_data_are_hashed_first(shown: Callable[..., list[str]], run_copy: Path):
    found = shown("train", "--resume", run_copy, "--no-report")
    assert [line for line in found if ".csv" in line or "loading" in line][:4] == [
        "hashing sst.csv",
        "hashing quora.csv",
        "hashing sts.csv",
        "loading the weights of last",
    ]
