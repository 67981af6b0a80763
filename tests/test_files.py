import errno
import os
import re
import resource
import tracemalloc
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mtbert import files, json_files


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def links(folder: Path) -> dict[str, Path]:
    """Returns things that are not regular files, by the word for each in a message."""
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "device").symlink_to("/dev/zero")
    return {"a folder": folder / "folder", "a pipe": folder / "pipe", "a device": folder / "device"}


def test_only_regular_files_are_opened(tmp_path: Path):
    for kind, file in links(tmp_path).items():
        message = re.escape(f"{file}: {kind}, not a file.")
        with pytest.raises(ValueError, match=message):
            files.read_bytes(file, 10)
        with pytest.raises(ValueError, match=message + " Mend it"):
            files.check_regular(file, "Mend it.")
        with pytest.raises(ValueError, match=message + " Mend it"):
            json_files.read_json(file, "Mend it.")


def test_a_file_is_read_up_to_a_size(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"x" * 10)
    assert files.read_bytes(tmp_path / "a", 10) == b"x" * 10
    with pytest.raises(ValueError, match="a: has 10 bytes, but at most 9 are read"):
        files.read_bytes(tmp_path / "a", 9)


def test_a_small_file_takes_little_memory_however_large_it_may_be(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"x" * 10)
    tracemalloc.start()
    try:
        assert files.read_bytes(tmp_path / "a", 2**32) == b"x" * 10
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_full_disk_names_the_requested_file_and_leaves_nothing_behind(tmp_path: Path, monkeypatch):
    target = tmp_path / "a.txt"
    files.write_text(target, "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as error:
        files.write(target, lambda new: (new.write_text("half"), full()))
    assert error.value.filename == str(target)
    with pytest.raises(OSError, match="No space left") as error:
        files.write_folder(tmp_path / "last", lambda new: (new / "x").write_text("half"))
    assert (error.value.filename, error.value.errno) == (str(tmp_path / "last"), errno.ENOSPC)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert target.read_text() == "old"


def test_a_disk_error_from_safetensors_names_the_file_too(tmp_path: Path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            files.write(tmp_path / "x.safetensors", lambda new: save_file({"x": torch.zeros(100_000)}, new))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (error.value.errno, error.value.filename) == (errno.EFBIG, str(tmp_path / "x.safetensors"))
    assert not list(tmp_path.iterdir())


def test_leftovers_of_a_kill_beside_a_place_are_cleaned_up(tmp_path: Path):
    last = tmp_path / "last"
    (tmp_path / ".last.old").mkdir()
    (tmp_path / ".last.old" / "x").write_text("old")
    (tmp_path / ".last.new").mkdir()
    files.settle(last)
    assert [path.name for path in tmp_path.iterdir()] == ["last"]
    assert (last / "x").read_text() == "old"
    (tmp_path / ".last.old").mkdir()
    (tmp_path / ".a.json.new").write_text("half")
    files.settle(last)
    files.settle(tmp_path / "a.json")
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_the_digest_of_a_file_is_its_sha256(tmp_path: Path):
    (tmp_path / "a").write_text("abc")
    # From FIPS 180-2, appendix B.1.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.sha256(tmp_path / "a", "Mend it.") == expected


def test_nothing_but_a_regular_file_has_a_digest(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for file, said in (
        (tmp_path / "gone", f"{tmp_path}/gone: not there. Mend it."),
        (tmp_path / "pipe", f"{tmp_path}/pipe: a pipe, not a file. Mend it."),
        (Path("/dev/zero"), "/dev/zero: a device, not a file. Mend it."),
        (tmp_path, f"{tmp_path}: a folder, not a file. Mend it."),
    ):
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            files.sha256(file, "Mend it.")
        assert str(error.value) == said
