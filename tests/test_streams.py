"""Files read in blocks: taking and skipping rows gives those of the file, wherever row groups begin."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtbert.data import streams

CALLS = [("take", 3), ("skip", 6), ("take", 5), ("skip", 1), ("skip", 15), ("take", 9), ("skip", 2), ("take", 99)]


@pytest.mark.parametrize("group", [1, 4, 7, 100])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_taking_and_skipping_rows_gives_the_rows_at_these_places(tmp_path: Path, suffix: str, group: int):
    file, rows = tmp_path / f"a{suffix}", 50
    if suffix == ".csv":
        file.write_text("n\n" + "".join(f"{i}\n" for i in range(rows)))
    else:
        pq.write_table(pa.table({"n": [str(i) for i in range(rows)]}), file, row_group_size=group)
    place = 0
    with streams.opened_stream("a", file, ["n"]) as stream:
        for call, number in CALLS:
            stop = min(place + number, rows)
            if call == "skip":
                stream.skip(number)
                place = stop
            while place < stop:
                block = stream.take(stop - place)
                assert block.first == place
                found = [values[0] for _, values in block.records(["n"]).rows]
                assert found == [str(i) for i in range(place, place + block.size)]
                place += block.size
        assert (place, stream.more(), stream.share()) == (rows, False, 1.0)
