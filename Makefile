# make demo   install into .venv and train on generated data
# make test   install into .venv and run all tests
# make bench  install into .venv and measure speed beside its goals; BENCH="--only joint" chooses
# make check  formatter, linter, types, import layers
# make site   install into .venv and build the documents as a website into build/site
# make image-check  install what a server's image has into build/image (docs/serve.md), and ask it a question
# make package  wheel and source distribution into dist/, then the wheel in a fresh environment trains and answers
# make lowest the tests on the lowest versions that pyproject.toml allows, in .venv-lowest
# make gpu-wheels  on a machine with a network: all that make gpu needs beside PyTorch and transformers, into .wheels
# make gpu    on a machine with a GPU, which needs no network: tests, speed, a profile, learning, in 8 minutes; OUT=FOLDER;
#             GPU="--device cpu" does it in small on the CPU
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
# What SMART's tests compare with. Apart, because it asks for old stubs of NumPy, which mypy would believe.
ORACLE := smart-pytorch==0.0.4

OUT ?= runs/gpu
# Of the machine that make gpu runs on.
TARGET := --python-version 3.12 --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64

.PHONY: demo test bench check site image-check package lowest gpu-wheels gpu

demo: $(INSTALLED)
	$(BIN)/mtbert train demo --out runs/demo --overwrite
	$(BIN)/mtbert predict runs/demo --task sst --text "The plot is not bad at all, but the acting is dreadful."
	$(BIN)/mtbert predict runs/demo --task quora --text "How do I change euros into francs?" --text-pair "How do I change euros into rupees?"
	$(BIN)/mtbert predict runs/demo --task sts --text "A dog chases a cat." --text-pair "A dog is chasing a cat."

test: $(INSTALLED)
	MTBERT_GPU_DEVICE=cpu $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

bench: $(INSTALLED)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[bench]"
	$(BIN)/python -m benchmarks.bench $(BENCH)

check: $(INSTALLED)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

site: $(INSTALLED)
	$(BIN)/python -m website build/site

image-check:
	rm -rf build/lib
	PYTHON=$(PYTHON) deploy/install.sh build/image
	build/image/bin/python deploy/check.py tests/old_model/run

package: $(INSTALLED)
	rm -rf dist build/lib build/package
	$(BIN)/python -m build --no-isolation > /dev/null
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv build/package
	build/package/bin/pip install --quiet --constraint constraints.txt torch
	build/package/bin/pip install --quiet --constraint constraints.txt "$$(echo dist/*.whl)[demo]"
	cd build/package && bin/mtbert train demo --out demo --set train.rounds=5
	cd build/package && bin/mtbert predict demo --task sst --text "The plot is not bad at all."
	cd build/package && bin/mtbert report demo

lowest: .venv-lowest/installed
	.venv-lowest/bin/pytest -n auto --dist loadfile --no-loadscope-reorder

gpu-wheels: $(INSTALLED)
	$(BIN)/pip download --quiet --dest .wheels --only-binary=:all: $(TARGET) psutil pydantic pyyaml
	$(BIN)/python -m benchmarks.gpu weights

# Beside what the machine has, which stays as it is.
gpu:
	$(PYTHON) -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target build/gpu .wheels/*.whl
	PYTHONPATH=build/gpu:src $(PYTHON) -m benchmarks.gpu run --out $(OUT) $(GPU)

# torch first and alone: where a CPU build is at hand it is taken, and later ranges are met by it.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[demo,dev,docs]"
	$(BIN)/pip install --quiet --no-deps $(ORACLE)
	touch $@

.venv-lowest/installed: pyproject.toml lowest.txt
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet --constraint lowest.txt --editable ".[demo,dev]"
	.venv-lowest/bin/pip install --quiet --no-deps $(ORACLE)
	touch $@
