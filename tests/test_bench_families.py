"""The benchmark of encoder families: each family runs, and both sides compute the same."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from toy_run import WORDS

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks import families
from benchmarks.families import Shape, family_group
from benchmarks.plain import ATTENTION_DROPOUT, Plain
from benchmarks.report import Row
from benchmarks.sides import Settings, write_random_encoder
from mtbert.model.config import read_config
from mtbert.model.families.known import FAMILIES
from mtbert.model.unfilled import unfilled
from mtbert.model.weights import load_encoder
from mtbert.recipe.files import load_recipe

TINY = Shape(width=12, layers=2, heads=2, positions=128, vocabulary=20)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("families")
    (folder / "small").mkdir()
    # transformers' MPNet gives the piece with number 1 the place of padding, so no text may have it.
    pieces = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "small" / "vocab.txt").write_text("\n".join(pieces) + "\n")
    return Settings(work=folder, pairs=1, small=str(folder / "small"))


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_has_a_row_for_steps_and_one_for_answers(settings: Settings, name: str):
    step, answers = family_group(name, TINY)(settings)
    assert [step.name, answers.name] == [f"{name}/step", f"{name}/answers"]
    assert all(row.ours > 0 and row.theirs > 0 for row in (step, answers))
    assert answers.note.endswith(("sdpa", "eager"))


def test_predictions_that_differ_are_not_compared(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    vectors = Plain.vectors
    monkeypatch.setattr(Plain, "vectors", lambda self, **inputs: vectors(self, **inputs) + 0.01)
    monkeypatch.setattr(families, "contest", lambda s, row, *given: Row(name=row))
    rows = family_group("bert", TINY)(replace(settings, work=tmp_path))
    assert next(rows).name == "bert/step"
    with pytest.raises(ValueError, match="bert/answers: predictions differ by"):
        next(rows)


def test_the_layers_of_all_families_have_as_many_weights(tmp_path: Path):
    def weights(name: str) -> int:
        (tmp_path / "config.json").write_text(json.dumps(TINY.config(name)))
        layers = unfilled(read_config(tmp_path / "config.json")).layers
        return sum(module.weight.numel() for module in layers.modules() if isinstance(module, nn.Linear))

    assert {name: weights(name) for name in FAMILIES} == dict.fromkeys(FAMILIES, 2 * 12 * 12 * 12)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_other_side_has_our_dropout(tmp_path: Path, name: str):
    write_random_encoder(tmp_path / name, TINY.config(name))
    ours = load_encoder(str(tmp_path / name), dropout=0.25).encoder.config
    theirs = Plain(tmp_path / name, ours, load_recipe("paper/base"), {}).encoder
    rates = {module.p for module in theirs.modules() if isinstance(module, nn.Dropout)}
    of_attention = {value for key, value in theirs.config.to_dict().items() if key in ATTENTION_DROPOUT}
    assert rates == of_attention == {0.25}


def test_the_table_has_a_line_for_each_family_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    row = {"ours": 12.4, "theirs": 20.0, "ratio": 1.613, "spread": 0.05}
    rows = Row(name="step", **row), Row(name="answers", **row, note="their attention: eager")
    monkeypatch.setattr(families, "family_group", lambda name: lambda settings: iter(rows))
    monkeypatch.setattr(sys, "argv", ["families", "--family", "mpnet", "--threads", str(torch.get_num_threads())])
    families.main()
    heading, rule, line = capsys.readouterr().out.splitlines()
    assert line == "| mpnet | 12 ms | 20 ms | 1.61 | 0.05 | 12 ms | 20 ms | 1.61 | 0.05 | eager |"
    assert heading.count("|") == rule.count("|") == line.count("|")
