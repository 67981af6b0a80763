"""An encoder of an unknown family is refused before any data are read, with the families that there are."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import toy_run
import yaml
from foreign import edit
from toy_tuning import SILENT, ranged

from mtbert.recipe.files import load_recipe
from mtbert.studying import plan
from mtbert.studying.commands import run_study
from mtbert.studying.tunable import Tuning
from mtbert.studying.tuning import run_tuning
from mtbert.training.assemble import check_data
from mtbert.training.start import start_run


def train(folder: Path) -> None:
    start_run(load_recipe(str(folder / "toy.yaml")), folder / "out", SILENT)


def data_check(folder: Path) -> None:
    check_data(load_recipe(str(folder / "toy.yaml")))


def study(folder: Path) -> None:
    (folder / "study.yaml").write_text("rows: {sum: toy.yaml}\nseeds: [0]\n")
    run_study(plan.load_study(str(folder / "study.yaml")), folder / "out", 1, SILENT)


def tune(folder: Path) -> None:
    run_tuning(Tuning(ranged(folder, {"train.lr": [1e-3, 1e-4]}), (), False, folder / "out"), 1, SILENT)


COMMANDS = (train, data_check, study, tune)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_encoder_of_an_unknown_family_is_refused_before_data_are_read(
    command: Callable[[Path], None], tmp_path: Path
):
    toy_run.set_up(tmp_path)
    edit(tmp_path / "encoder/config.json", model_type="bertt")
    for file in (tmp_path / "data").iterdir():
        file.unlink()
    said = f"{tmp_path}/encoder/config.json: model_type must be one of bert, deberta-v2, distilbert, "
    with pytest.raises(ValueError, match=rf"^{re.escape(said)}.*, found 'bertt'\. Did you mean 'bert'\? Choose"):
        command(tmp_path)
    assert not any((tmp_path / "out").glob("cells/*"))


@pytest.mark.parametrize("command", COMMANDS[:3])
def test_a_length_beyond_the_encoders_positions_is_refused_before_data_are_read(
    command: Callable[[Path], None], tmp_path: Path
):
    raw = yaml.safe_load(toy_run.set_up(tmp_path).read_text())
    raw["model"]["max_length"] = 33
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(raw))
    for file in (tmp_path / "data").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"model\.max_length: 33 is more than the 32 positions of"):
        command(tmp_path)
