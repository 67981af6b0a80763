"""Builds the site into a folder, and fails if a page has a broken link.

python -m website build/site
"""

import argparse
import subprocess
import sys
from pathlib import Path

from website.build import build


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m website", description="Build the documents as a website.")
    parser.add_argument("folder", type=Path, help="where the site is written; an older site there is replaced")
    folder = parser.parse_args().folder
    try:
        build(folder)
    except subprocess.CalledProcessError as failed:
        sys.exit(failed.returncode)
    print(f"open {folder / 'index.html'}")


if __name__ == "__main__":
    main()
