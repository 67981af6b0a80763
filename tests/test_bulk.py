"""``predict`` with a pattern: the parts that it writes, what it skips, and how several commands share the work."""

import errno
import io
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from children import Child, killed
from full_disk import files_of_at_most
from rich.console import Console
from toy_parts import ROWS, inputs, parts, read_rows, rows_of, write_rows

from mtbert import locks
from mtbert.part_share import share_of
from mtbert.use import making
from mtbert.use.bulk import find_inputs, score_files
from mtbert.use.part_files import PartFolder

SILENT = Console(quiet=True)


def score(toy: Path, pattern: str, out: Path, share: str = "1/1") -> None:
    score_files(toy / "run", pattern, str(out), SILENT, part_rows=10, share=share_of(share))


@pytest.fixture
def small_blocks(monkeypatch) -> None:
    monkeypatch.setattr(making, "BLOCK_ROWS", 4)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("tasks", [(), ("sst",)])
def test_the_parts_together_have_the_rows_that_predict_writes_for_one_file(
    toy, mtbert, tmp_path, small_blocks, suffix, tasks
):
    pattern, out = inputs(tmp_path / "in", suffix), tmp_path / "out"
    named = [word for task in tasks for word in ("--task", task)]
    done = mtbert("predict", toy / "run", *named, "--input", pattern, "--output", f"{out}/", "--part-rows", 10)
    assert (done.code, done.out) == (0, "")
    assert list(parts(out)) == [f"f{file}-0000{part}{suffix}" for file in (0, 1) for part in (0, 1, 2)]
    for file in (0, 1):
        alone = tmp_path / f"alone{file}{suffix}"
        given = tmp_path / f"in/f{file}{suffix}"
        if tasks:  # for one task alone, an empty text is a mistake
            given = write_rows(
                tmp_path / f"filled{suffix}", [r | {"sentence": r["sentence"] or "a"} for r in rows_of(file)]
            )
        assert mtbert("predict", toy / "run", *named, "--input", given, "--output", alone).code == 0
        wanted, found = read_rows(alone), read_rows(*sorted(out.glob(f"f{file}-*")))
        assert [list(row) for row in found] == [list(row) for row in wanted]
        for row, (one, other) in enumerate(zip(found, wanted, strict=True)):
            if not (tasks and row == 1):
                assert near(one) == near(other)
    whose = "sst" if tasks else "sst, quora, sts"
    empty = "2 rows of task sst" + ("" if tasks else ", 2 rows of task quora, 2 rows of task sts")
    assert done.err.splitlines()[-2:] == [
        f"warning: no answer in {empty}, because a text is empty.",
        f"done: 46 rows with the answers of {whose} in 6 parts in {out}/",
    ]


def near(row: object) -> object:
    """Returns a row with fewer digits, because a row is answered beside other rows, whose sums round differently."""
    if isinstance(row, dict):
        return {key: near(value) for key, value in row.items()}
    try:
        return round(float(row), 4) if row is not None else None  # type: ignore[arg-type]
    except ValueError:
        return row


def test_columns_of_parquet_keep_their_types_and_a_part_without_answers_has_those_of_the_others(toy, tmp_path):
    rows = [row | {"sentence1": "" if i < 10 else row["sentence1"]} for i, row in enumerate(rows_of(0))]
    table = pa.Table.from_pylist(rows).append_column("when", pa.array([2**62] * ROWS, pa.timestamp("us")))
    table = table.set_column(4, "n", pa.array([None, *range(ROWS - 1)], pa.int8()))
    (tmp_path / "in").mkdir()
    pq.write_table(table, tmp_path / "in/a.parquet")
    score(toy, str(tmp_path / "in/*.parquet"), tmp_path / "out")
    schemas = [pq.read_schema(path) for path in sorted((tmp_path / "out").glob("*.parquet"))]
    assert [str(schemas[0].field(name).type) for name in ("n", "when", "quora.label", "sts.score")] == [
        "int8",
        "timestamp[us]",
        "string",
        "double",
    ]
    assert schemas[0] == schemas[1] == schemas[2]
    first = pq.read_table(tmp_path / "out/a-00000.parquet")
    assert first["quora.label"].to_pylist() == [None] * 10
    assert first["when"].cast(pa.int64()).to_pylist() == [2**62] * 10


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_without_the_id_column_are_numbered_within_their_file(toy, tmp_path, suffix):
    rows = [{key: value for key, value in row.items() if key != "id"} for row in rows_of(0)]
    write_rows(tmp_path / f"in/a{suffix}", rows)
    score(toy, str(tmp_path / f"in/a{suffix}"), tmp_path / "out")
    found = read_rows(*sorted((tmp_path / "out").glob("a-*")))
    assert [row["id"] for row in found] == [str(i + 1) for i in range(ROWS)]
    assert next(iter(found[0])) == "id"


def test_finished_parts_are_left_as_they_are(toy, tmp_path, monkeypatch):
    pattern, out = inputs(tmp_path / "in"), tmp_path / "out"
    score(toy, pattern, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    monkeypatch.setattr("mtbert.use.scorer.Scorer.score", lambda *_: pytest.fail("a part is made again"))
    score(toy, pattern, out)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_part_that_is_missing_or_cut_is_made_again_with_the_same_bytes(toy, tmp_path, suffix):
    pattern, out = inputs(tmp_path / "in", suffix), tmp_path / "out"
    score(toy, pattern, out)
    before = parts(out)
    (out / f"f0-00001{suffix}").unlink()
    (out / f"f1-00002{suffix}").write_bytes(b"cut")
    (out / f".mtbert/f1-00000{suffix}.json").write_text("{")
    score(toy, pattern, out)
    assert parts(out) == before


def test_killed_before_any_of_its_file_operations_and_started_again_it_writes_the_same_bytes(toy, tmp_path):
    pattern, whole, out = inputs(tmp_path / "in"), tmp_path / "whole", tmp_path / "out"
    score(toy, pattern, whole)
    operation = kills = 0
    while killed(lambda: score(toy, pattern, out), operation):
        operation += 1 + operation % 3  # each child goes on where the one before was killed
        kills += 1
    assert kills > 10
    score(toy, pattern, out)
    assert parts(out) == parts(whole)


def test_shares_have_each_part_once(toy, tmp_path):
    pattern, whole, out = inputs(tmp_path / "in", ".csv", files=3), tmp_path / "whole", tmp_path / "out"
    score(toy, pattern, whole)
    made = []
    for number in (1, 2):
        score(toy, pattern, out, f"{number}/2")
        made.append(set(parts(out)))
    assert sorted(map(len, (made[0], made[1] - made[0]))) == [4, 5]
    assert parts(out) == parts(whole)


def test_a_file_of_another_share_is_not_said_to_have_no_rows(toy, mtbert, tmp_path):
    call = ("--input", inputs(tmp_path / "in"), "--output", f"{tmp_path}/out/", "--part-rows", 30, "--part", "1/2")
    done = mtbert("predict", toy / "run", *call)
    assert done.err.splitlines()[-1].endswith("; 1 of 2 files are complete")
    assert "no rows" not in done.err


def test_two_commands_at_once_make_each_part_once(toy, tmp_path):
    pattern, whole, out = inputs(tmp_path / "in", files=4), tmp_path / "whole", tmp_path / "out"
    score(toy, pattern, whole)
    counted = tmp_path / "counted"
    real = PartFolder.write

    def write(self, given, number, fill):
        with counted.open("a") as file:
            file.write(f"{given.number} {number}\n")
        return real(self, given, number, fill)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PartFolder, "write", write)
        both = [Child(lambda: score(toy, pattern, out)) for _ in range(2)]
        assert [child.said() for child in both] == ["done", "done"]
    assert parts(out) == parts(whole)
    lines = counted.read_text().splitlines()
    assert len(lines) == len(set(lines)) == 12


def test_a_part_of_another_command_that_is_killed_is_made_in_the_end(toy, tmp_path):
    pattern, whole, out = inputs(tmp_path / "in", files=1), tmp_path / "whole", tmp_path / "out"
    score(toy, pattern, whole)
    (out / ".mtbert").mkdir(parents=True)

    def hold() -> None:
        with locks.claimed(out / ".mtbert", "f0-00001.parquet") as free:
            (tmp_path / "held").write_text(str(free))
            time.sleep(60)

    def until(there: Callable[[], bool]) -> None:
        while not there():
            time.sleep(0.01)

    holder = Child(hold)
    until((tmp_path / "held").exists)
    maker = Child(lambda: score(toy, pattern, out))
    until((out / ".mtbert/f0-00002.parquet.json").exists)
    assert sorted(parts(out)) == ["f0-00000.parquet", "f0-00002.parquet"]
    holder.process.kill()
    assert (holder.said(), maker.said()) == ("killed", "done")
    assert parts(out) == parts(whole)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_full_disk_names_the_part_and_the_next_call_goes_on(toy, mtbert, tmp_path, suffix):
    pattern, out = inputs(tmp_path / "in", suffix, files=1), tmp_path / "out"
    call = ("predict", toy / "run", "--input", pattern, "--output", f"{out}/", "--part-rows", 10)
    assert mtbert(*call).code == 0
    whole = parts(out)
    file = out / f"f0-00001{suffix}"
    file.unlink()
    with files_of_at_most(600):
        done = mtbert(*call)
    assert (done.code, done.err.splitlines()[-1]) == (1, f"mtbert: {file}: File too large. Make room, and go on.")
    assert f"f0-00001{suffix}" not in parts(out)
    assert mtbert(*call).code == 0
    assert parts(out) == whole


def test_an_output_folder_that_cannot_be_written_is_not_blamed_on_the_input(toy, mtbert, tmp_path, monkeypatch):
    pattern, out = inputs(tmp_path / "in", ".csv", files=1), tmp_path / "out"
    score(toy, pattern, out)
    (out / "f0-00000.csv").unlink()

    def without_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", without_locks)
    with pytest.raises(ValueError, match=f"^{out}/.mtbert: the file system of this folder has no locks "):
        PartFolder(out, ".csv").claimed(find_inputs(pattern, out)[0], 0, wait=False).__enter__()


def test_a_terminal_shows_a_bar_for_all_files(toy: Path, tmp_path: Path, small_blocks: None):
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, _environ={"TERM": "xterm"})
    score_files(toy / "run", inputs(tmp_path / "in", ".csv"), f"{tmp_path}/out/", console)
    assert "scoring  " in file.getvalue()
    assert "done: " in file.getvalue()
