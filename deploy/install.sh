#!/bin/sh
# Makes a new Python environment that can only serve: deploy/install.sh FOLDER
set -eu
cd "$(dirname "$0")/.."
"${PYTHON:-python3}" -m venv "$1"
"$1/bin/pip" install --quiet --no-cache-dir --constraint constraints.txt --requirement deploy/serving.txt
"$1/bin/pip" install --quiet --no-cache-dir --no-deps .
