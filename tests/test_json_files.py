from pathlib import Path

import pytest
from full_disk import files_of_at_most

from mtbert import json_files
from mtbert.settings import Settings


class Toy(Settings):
    size: int
    names: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"toy\.json: not JSON \(Expecting value: line 1 column 1 \(char 0\)\)\. Write it again"),
        (b"\xff{}", r"toy\.json: not UTF-8 at byte 0\. Write it again"),
        (b"[" * 100_000, r"toy\.json: not JSON that can be read \(nested too deep\)\. Write"),
        (b"null", r"toy\.json: damaged: .*\. Write it again"),
        (b"[]", r"toy\.json: damaged: .*\. Write it again"),
        (b'{"size": "3"}', r"toy\.json: damaged: size: must be a valid integer, found \"3\"\. Write"),
        (b'{"size": 3, "sise": 1}', r"toy\.json: damaged: unknown key 'sise'\. Did you mean 'size'\? Write"),
        (b'{"size": 3, "other": 1}', r"toy\.json: damaged: unknown key 'other'\. Known keys: size, names\. Write"),
        (b'{"size": %s}' % (b"9" * 5000), r"toy\.json: not JSON \(Exceeds the limit .*\. Write it again"),
    ],
)
def test_damaged_settings_are_one_line_that_names_the_file(tmp_path: Path, content: bytes, said: str):
    (tmp_path / "toy.json").write_bytes(content)
    with pytest.raises(ValueError, match=said) as error:
        json_files.read_settings(tmp_path / "toy.json", Toy, "Write it again.")
    assert "\n" not in str(error.value)


def test_json_is_read_up_to_a_hundred_levels(tmp_path: Path):
    file = tmp_path / "a.json"
    for levels, opening, closing in ((100, "[", "]"), (50, '{"a": [', "]}")):
        file.write_text(opening * levels + closing * levels)
        assert json_files.read_json(file, "") is not None
        file.write_text(opening * levels + "[1]" + closing * levels)
        with pytest.raises(ValueError, match=r"a\.json: not JSON that can be read \(nested too deep\)\. Mend it"):
            json_files.read_json(file, "Mend it.")


def test_settings_come_back_from_a_file(tmp_path: Path):
    (tmp_path / "toy.json").write_text('{"size": 3, "names": ["a", "b"]}')
    assert json_files.read_settings(tmp_path / "toy.json", Toy, "") == Toy(size=3, names=("a", "b"))
    with pytest.raises(FileNotFoundError, match=r"none\.json: not there\. Write it"):
        json_files.read_settings(tmp_path / "none.json", Toy, "Write it again.")


def test_written_settings_can_be_read_and_a_full_disk_leaves_the_old_ones(tmp_path: Path):
    file = tmp_path / "toy.json"
    json_files.write_settings(file, Toy(size=3, names=("ä",)))
    assert file.read_text(encoding="utf-8") == '{\n  "size": 3,\n  "names": [\n    "ä"\n  ]\n}\n'
    assert json_files.read_settings(file, Toy, "Write it again.") == Toy(size=3, names=("ä",))
    with files_of_at_most(40), pytest.raises(OSError, match="too large") as error:
        json_files.write_settings(file, Toy(size=4, names=("x" * 100,)))
    assert error.value.filename == str(file)
    assert json_files.read_settings(file, Toy, "").size == 3
    assert [path.name for path in tmp_path.iterdir()] == ["toy.json"]
