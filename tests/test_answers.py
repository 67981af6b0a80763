"""The packed answers of a study: they give the same statistics, and the file contains nothing else."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_run
from tiny import RECORD

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks import answers
from mtbert import splits
from mtbert.recipe.files import load_recipe
from mtbert.storage.predictions import Predicted
from mtbert.studying import results
from mtbert.studying.results import EndedRun, Outline, Results
from mtbert.studying.summary import summarise


@pytest.fixture
def study(tmp_path: Path) -> Results:
    """A study of two recipes and two seeds with random answers; one run is missing."""
    settings = load_recipe(str(toy_run.set_up(tmp_path)))
    halves = {name: splits.read_split(settings, name) for name in settings.tasks}
    digests = {part.name: part.digest for split in halves.values() for part in split.parts}
    record = RECORD.model_copy(update={"data": digests})
    runs: dict[str, dict[int, EndedRun]] = {}
    for row, seed in (("plain", 0), ("plain", 1), ("other", 0)):
        draws = torch.Generator().manual_seed(seed + len(row))
        predicted = {}
        for name, split in halves.items():
            if split.task.type == "binary":
                raw = torch.randn(len(split.dev), generator=draws)
                predicted[name] = Predicted(raw, (raw > 0).long())
            elif split.task.labels:
                raw = torch.randn(len(split.dev), len(split.task.labels), generator=draws)
                predicted[name] = Predicted(raw, raw.argmax(1))
            else:
                raw = torch.rand(len(split.dev), generator=draws)
                predicted[name] = Predicted(raw, raw.double())
        runs.setdefault(row, {})[seed] = EndedRun(row, seed, settings, record, predicted, None, [], 1.5, Path())
    outline = Outline(
        rows={"plain": None, "other": "plain"},
        sources=dict.fromkeys(("plain", "other"), "toy"),
        seeds=(0, 1),
        reference="plain",
        threads=1,
    )
    return results.gather(outline, runs, ["other, seed 1"])


def test_a_packed_study_has_the_same_statistics_bitwise(study: Results, tmp_path: Path):
    answers.pack(study, tmp_path / "packed.npz")
    found = answers.unpack(tmp_path / "packed.npz", tmp_path / "data")
    assert summarise(found) == summarise(study)
    assert found.outline == study.outline
    assert list(found.missing) == ["other, seed 1"]


def test_the_same_answers_give_the_same_bytes_without_texts_and_places(study: Results, tmp_path: Path):
    for name in ("packed.npz", "again.npz"):
        answers.pack(study, tmp_path / name)
    assert (tmp_path / "packed.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()
    with np.load(tmp_path / "packed.npz", allow_pickle=False) as arrays:
        told = arrays[answers.META].tobytes().decode()
        assert {array.dtype.name for array in arrays.values()} == {"uint8", "float32"}
    assert str(tmp_path / "data") not in told
    assert all(example.texts[0] not in told for example in study.dev["quora"].examples)


def test_other_data_than_the_runs_were_scored_on_are_refused(study: Results, tmp_path: Path):
    answers.pack(study, tmp_path / "packed.npz")
    file = tmp_path / "data" / "sts.csv"
    file.write_text(file.read_text().replace("t0,", "t0000,"))
    with pytest.raises(ValueError, match=r"sts\.csv: not the data that the runs were scored on"):
        answers.unpack(tmp_path / "packed.npz", tmp_path / "data")
