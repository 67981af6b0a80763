"""Reading recipes does not import torch, so that commands which only read recipes are fast."""

import json
import subprocess
import sys

import pytest

from mtbert.recipe.files import describe, shipped_recipes

SLOW = (
    "torch",
    "scipy",
    "sklearn",
    "pyarrow",
    "datasets",
    "transformers",
    "tokenizers",
    "matplotlib",
    "optuna",
)

# Importing one of SLOW raises ImportError here.
QUICK = f"""
import contextlib, io, json, sys

for name in {SLOW}:
    sys.modules[name] = None
from mtbert import cli

said = []
for arguments in json.loads(sys.argv.pop()):
    out, sys.argv[1:] = io.StringIO(), arguments
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        cli.main()
    said.append(out.getvalue())
json.dump(said, sys.stdout)
"""


def outputs(*commands: list[str]) -> list[str]:
    """Returns the output of each command in a process that cannot import the slow libraries."""
    done = subprocess.run([sys.executable, "-c", QUICK, json.dumps(commands)], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


def test_every_shipped_recipe_is_shown_without_torch():
    names = shipped_recipes()
    shown = outputs(*[["recipe", "show", name] for name in names])
    for name, text in zip(names, shown, strict=True):
        assert text.startswith("control:"), name
        assert "\ntrain:" in text, name
    assert outputs(["recipe", "show", "dmeo"], ["recipe", "show", "demo", "--set", "train.lr=-1"]) == ["", ""]


def test_lists_schema_version_and_help_need_no_torch():
    listed, schema, version, top, data, of_train = outputs(
        ["recipe", "list"], ["recipe", "schema"], ["--version"], ["--help"], ["data", "--help"], ["train", "--help"]
    )
    assert len(listed.splitlines()) == len(shipped_recipes())
    assert {"SimCSE", "PCGrad", "Annealed", "Pal", "Lora", "Ema"} <= set(json.loads(schema)["$defs"])
    assert version.startswith("mtbert ")
    assert all("Usage" in text for text in (top, data, of_train))


def test_a_line_of_the_list_has_a_name_and_what_it_is():
    (listed,) = outputs(["recipe", "list"])
    assert "demo                Three tasks on sentences that mtbert generates itself: minutes on two cores." in listed
    assert "paper/surgery       Gradient surgery (table 4)." in listed


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_begins_with_a_sentence_about_it(name: str):
    said = describe(name)
    assert said[-1] in ".?"
    assert len(said) <= 102
