"""The recipes of pairs and rankings in docs/recipes.md run as they are printed, on generated toy sentences."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import commands
import numpy as np
import pytest
import toy_run
import toy_search
import yaml
from commands import Mtbert

from mtbert import load
from mtbert.prepare import prepare
from mtbert.recipe.files import load_recipe
from mtbert.storage.model_folder import load_model

mtbert = commands.mtbert

DOCUMENT = (Path(__file__).parent.parent / "docs/recipes.md").read_text()
RECIPES = dict(re.findall(r"```yaml\n# (\S+\.yaml)\n(.*?)```", DOCUMENT, re.DOTALL))
# With a higher rate the poolers saturate, and some answers no longer depend on the order of the texts.
QUICK = ["train.epochs=15", "train.lr=0.004", "model.max_length=24", "train.threads=1", "train.precision=fp32"]
NOUNS, ADJECTIVES = ("dog", "cat", "film", "plot"), ("good", "bad", "fine", "dull", "old", "new")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an encoder, the recipes of the document, and data for them."""
    folder = tmp_path_factory.mktemp("pairs")
    toy_run.encoder_folder(folder / "encoder")
    for name, text in RECIPES.items():
        (folder / name).write_text(text)
    rng = np.random.default_rng(0)
    nli, pairs = ["premise,hypothesis,gold"], ["id,first,second,same,similarity,relation"]
    for i in range(120):
        noun, other = rng.permutation(NOUNS)[:2]
        adjective = rng.choice(ADJECTIVES)
        first = f"the {noun} is {adjective}"
        # The same noun without a negation, another noun, or the same noun with a negation.
        seconds = (f"a {noun} was {adjective}", f"a {other} was {adjective}", f"a {noun} was not {adjective}")
        relation = i % 3
        nli.append(f"{first},{seconds[relation]},{relation}")
        name = ("entailment", "neutral", "contradiction")[relation]
        same, similarity = ("yes", "no", "no")[relation], (5, 1, 2)[relation]
        cells = [same if i % 4 else "", str(similarity) if i % 5 else "", name if i % 6 else ""]
        pairs.append(",".join((f"p{i}", first, seconds[relation], *cells)))
    (folder / "nli.csv").write_text("\n".join(nli) + "\n")
    (folder / "pairs.csv").write_text("\n".join(pairs) + "\n")
    toy_search.write(folder / "search.csv", toy_search.rows(120))
    return folder


@pytest.fixture
def trained(folder: Path, mtbert: Mtbert) -> Callable[[str], Path]:
    """Trains a recipe of the document once, checks its data, and returns the folder of the run."""

    def train(name: str) -> Path:
        out = folder / f"run of {name}"
        if not out.exists():
            changes = [f"model.path={folder / 'encoder'}", *QUICK]
            options = [part for change in changes for part in ("--set", change)]
            for arguments in (
                ("data", "check", folder / name, *options),
                ("train", folder / name, *options, "--out", out),
            ):
                done = mtbert(*arguments)
                assert done.code == 0, done
        return out

    return train


def test_the_document_has_a_recipe_of_each_kind():
    assert {"nli.yaml", "pairs.yaml", "search.yaml"} <= RECIPES.keys()


def test_three_class_inference_on_packed_pairs_names_the_codes_of_the_file(
    trained: Callable[[str], Path], mtbert: Mtbert
):
    run = trained("nli.yaml")
    made = load(run)
    assert made.tasks["nli"].labels == ("entailment", "neutral", "contradiction")
    assert made.tasks["nli"].inputs == "packed"
    found = json.loads(mtbert("evaluate", run, "--json").out)["tasks"]["nli"]
    assert found["metric"] == "macro_f1"
    assert found["metrics"]["macro_f1"] > found["constant"]["macro_f1"]
    (answer,) = made.predict("nli", ("the dog is good", "a dog was not good"))
    assert list(answer) == ["label", "p(entailment)", "p(neutral)", "p(contradiction)"]
    forwards, backwards = (made.predict("nli", pair)[0] for pair in (("the dog", "a cat"), ("a cat", "the dog")))
    assert forwards != backwards


def test_the_pairs_of_a_table_are_encoded_once_for_all_packed_tasks(folder: Path, trained: Callable[[str], Path]):
    run = trained("pairs.yaml")
    made = load(run)
    (answer,) = made([("the dog is good", "a dog was good")])
    assert {name: next(iter(one)) for name, one in answer.items()} == {
        "same": "label",
        "similarity": "score",
        "relation": "label",
        "meaning": "label",
    }
    assert "cosine" in answer["meaning"]
    data = prepare(load_recipe(str(run / "recipe.yaml")), load_model(run / "best").tokenizer)
    train = {name: one.train for name, one in data.items()}
    assert train["same"].sequences is train["similarity"].sequences is train["relation"].sequences
    assert len(train["meaning"].sequences) == 2
    rows = {name: set(one.examples.ids) | set(data[name].dev.examples.ids) for name, one in train.items()}
    with_label = {"same": 4, "similarity": 5, "relation": 6, "meaning": 4}  # every so many rows lacks one
    for name, ids in rows.items():
        assert ids <= {f"p{i}" for i in range(120) if i % with_label[name]}
        assert len(ids) > 70


def test_a_ranking_puts_the_right_candidate_first(trained: Callable[[str], Path], mtbert: Mtbert):
    run = trained("search.yaml")
    found = json.loads(mtbert("evaluate", run, "--json").out)["tasks"]["search"]
    assert found["metrics"]["accuracy"] > 0.7 > found["constant"]["accuracy"]
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    assert recipe["tasks"]["search"]["columns"]["label"] == []
