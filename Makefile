# make demo   install into .venv and train on generated data
# make test   install into .venv and run all tests
# make bench  install into .venv and measure speed beside its goals; BENCH="--only joint" chooses
# make check  formatter, linter, types, import layers
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
# What SMART's tests compare with. Apart, because it asks for old stubs of NumPy, which mypy would believe.
ORACLE := smart-pytorch==0.0.4

.PHONY: demo test bench check

demo: $(INSTALLED)
	$(BIN)/mtbert train demo --out runs/demo --overwrite
	$(BIN)/mtbert predict runs/demo --task sst --text "The plot is not bad at all, but the acting is dreadful."
	$(BIN)/mtbert predict runs/demo --task quora --text "How do I change euros into francs?" --text-pair "How do I change euros into rupees?"
	$(BIN)/mtbert predict runs/demo --task sts --text "A dog chases a cat." --text-pair "A dog is chasing a cat."

test: $(INSTALLED)
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

bench: $(INSTALLED)
	$(BIN)/pip install --quiet --editable ".[bench]"
	$(BIN)/python -m benchmarks.bench $(BENCH)

check: $(INSTALLED)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

# torch first and alone: where a CPU build is at hand it is taken, and later ranges are met by it.
$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --editable ".[demo,dev]"
	$(BIN)/pip install --quiet --no-deps $(ORACLE)
	touch $@
