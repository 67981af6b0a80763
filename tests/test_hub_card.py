"""The model card on the Hub: what it says, and that no foreign text can break it."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import toy_exports
import yaml
from markdown_it import MarkdownIt
from toy_exports import task
from toy_hub import ToyHub

import mtbert
from mtbert.model.download import Origin
from mtbert.recipe.files import load_recipe
from mtbert.use.export import Compared, Wanted
from mtbert.use.export.card import write_card
from mtbert.use.export.hub_card import OverSeeds, ScoreLine, Training, hub_card
from mtbert.use.export.known import EXPORTERS
from mtbert.use.predictor import Predictor

TRAINING = Training("tasks: {}\n", (), (), {}, Origin("base", None), None)


def parts(card: str) -> tuple[dict[str, object], str]:
    """Returns a pair: the metadata of a card, and its Markdown."""
    start, metadata, text = card.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(metadata), text


def cells(text: str) -> list[str]:
    """Returns the text of every cell of every table, as a reader of Markdown sees it."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inside = [token for before, token in pairwise(tokens) if before.type in ("td_open", "th_open")]
    return ["".join(child.content for child in token.children or ()) for token in inside]


def headings(text: str) -> list[str]:
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    return [token.content for before, token in pairwise(tokens) if before.type == "heading_open"]


def predictor_of(*tasks: str) -> Predictor:
    return toy_exports.predictor("bert", tasks)


def test_a_card_has_the_parts_of_a_run(toy: Path, hub: ToyHub):
    mtbert.push(toy / "run", "me/toy")
    metadata, text = parts(hub.repositories["me/toy"].files["README.md"].decode())
    assert metadata == {
        "library_name": "mtbert",
        "pipeline_tag": "text-classification",
        "tags": ["mtbert", "text-classification"],
    }
    assert headings(text) == ["toy", "Tasks", "Use", "Scores on dev", "Data", "Recipe"]
    assert "| `sst` | ordinal | single | 0, 1, 2, 3, 4 | linear |\n" in text
    assert "| `sts` | regression | packed | 0 to 5 | linear |\n" in text
    scores = mtbert.evaluate(toy / "run")
    sst, sts = scores["sst"]["macro_f1"], scores["sts"]["pearson"]
    assert f"| `sst` | macro_f1 | {sst:.4f} |  | {scores.constant['sst']['macro_f1']:.4f} | 4 |\n" in text
    assert f"| `sts` | pearson | {sts:.4f} | -0." in text
    assert "sts.csv: `a9d61570bf42b748e217c1e8dc2bbffb0568144aa428ed09a53dbad8fd9bb5cd`" in text


def test_the_recipe_of_a_card_is_that_of_the_run(toy: Path, hub: ToyHub, tmp_path: Path):
    mtbert.push(toy / "run", "me/toy")
    files = hub.repositories["me/toy"].files
    short = files["README.md"].decode().partition("```yaml\n")[2].partition("```")[0]
    assert "dropout" not in short
    (tmp_path / "short.yaml").write_text(short)
    (tmp_path / "long.yaml").write_bytes(files["recipe.yaml"])
    found, ours = (load_recipe(str(tmp_path / name)) for name in ("short.yaml", "long.yaml"))
    assert found == ours
    assert ours.tasks == load_recipe(str(toy / "run/recipe.yaml")).tasks


HOSTILE = (
    "a|b",
    "`code`",
    "<script>alert(1)</script>",
    "---",
    "[link](x) *b* _i_ ~~s~~",
    "\\|",
    "line\nbreak",
    "\x1b[2J",
    "``` fence",
    "# head",
)


def test_labels_stand_in_a_card_as_they_are():
    model = predictor_of("classes")
    labels = (*HOSTILE, "plain")
    hostile = task("classes", labels=labels)
    text = _card_of(model, hostile)
    assert headings(text) == ["toy", "Tasks", "Use", "Recipe"]
    assert cells(text)[5:] == [
        "classes",
        "classification",
        "single",
        "a|b, `code`, <script>alert(1)</script>, ---, [link](x) *b* _i_ ~~s~~, \\|, line\\nbreak, \\x1b[2J, ``` fence, "
        "# head, plain",
        "linear",
    ]
    assert "<script" not in MarkdownIt("commonmark").enable("table").render(text)


def _card_of(model: Predictor, one: object, training: Training = TRAINING) -> str:
    class Named(Predictor):
        def task(self, name: str) -> object:  # type: ignore[override]
            return one

    named = Named(model.model, model.tokenizer)
    return parts(hub_card("me/toy", named, ["classes"], training))[1]


def test_a_recipe_cannot_end_its_block():
    recipe = "tasks:\n  a: '```'\n  b: |\n    ````\n    # Other\n"
    card = hub_card("me/a_toy_b", predictor_of("classes"), ["classes"], replace(TRAINING, recipe=recipe))
    assert "\n# a\\_toy\\_b\n" in card
    assert headings(card)[-1] == "Recipe"
    assert card.endswith(f"\n`````yaml\n{recipe}`````\n")


def test_names_of_data_and_versions_are_shown_as_they_are():
    training = replace(TRAINING, data=[("a_b|`c`.csv", "0a")], packages={"mtbert": "1.*", "torch": "2<3"})
    text = hub_card("me/toy", predictor_of("classes"), ["classes"], training)
    assert "\n- a\\_b\\|\\`c\\`.csv: `0a`\n" in text
    assert "\nTrained with mtbert 1.\\* and torch 2\\<3. The encoder" in text


@pytest.mark.parametrize(
    ("tasks", "to", "metadata"),
    [
        (["classes"], None, {"library_name": "mtbert", "pipeline_tag": "text-classification"}),
        (["entities"], "transformers", {"library_name": "transformers", "pipeline_tag": "token-classification"}),
        (["equal"], "sentence-transformers", {"library_name": "sentence-transformers"}),
        (["classes", "pair"], "transformers", {"library_name": "mtbert", "pipeline_tag": "text-classification"}),
        (["classes", "entities"], None, {"library_name": "mtbert", "pipeline_tag": None}),
        (["search"], "onnx", {"library_name": "mtbert", "pipeline_tag": "text-ranking"}),
    ],
)
def test_the_hub_learns_the_library_and_the_kind_of_task(tasks: list[str], to: str | None, metadata: dict[str, str]):
    card = hub_card("me/toy", predictor_of(*tasks), tasks, TRAINING, to=to, exported="# T\n\nBody\n\n## Use\n\nx\n")
    found = parts(card)[0]
    assert {key: found.get(key) for key in metadata} == metadata
    assert (to in found["tags"]) == (to is not None)


def test_licence_and_base_model_are_named_where_they_are_known():
    training = replace(TRAINING, origin=Origin("org/base", "apache-2.0"), hub_id="org/base")
    card = hub_card("me/toy", predictor_of("classes"), ["classes"], training)
    assert parts(card)[0] == {
        "library_name": "mtbert",
        "license": "apache-2.0",
        "base_model": "org/base",
        "pipeline_tag": "text-classification",
        "tags": ["mtbert", "text-classification"],
    }
    assert "The encoder was fine-tuned from `org/base`; its licence is apache-2.0." in card


def test_fitted_numbers_and_intervals_are_listed():
    lines = [
        ScoreLine("sets", "micro_f1", 0.5, 0.25, 40, (0.4, 0.6), OverSeeds(3, 0.45, (0.4, 0.5))),
        ScoreLine("sets", "macro_f1", 0.125, 0.1, 40),
    ]
    card = hub_card("me/toy", predictor_of("sets", "steps"), ["sets", "steps"], replace(TRAINING, scores=lines))
    assert "\n- `sets`: a label is chosen above the probability a 0.5744, b 0.5744, c 0.5744\n" in card
    assert "\n- `sets`: scale 1.7\n" in card
    assert "\n- `steps`: isotonic calibration with 256 knots\n" in card
    assert (
        "| task | metric | score | 95% interval | best constant | examples | mean over seeds |\n"
        "|---|---|---|---|---|---|---|\n"
        "| `sets` | micro_f1 | 0.5000 | 0.4000 to 0.6000 | 0.2500 | 40 | 0.4500 (0.4000 to 0.5000), 3 seeds |\n"
        "| `sets` | macro_f1 | 0.1250 |  | 0.1000 | 40 |  |\n"
    ) in card


@pytest.mark.parametrize(
    ("no", "yes", "said"),
    [
        ("a|b", "<i>", "The answer is <i> if the cosine is above 0.3, and a|b if not."),
        ("`a`", "*b*", "The answer is *b* if the cosine is above 0.3, and `a` if not."),
    ],
)
def test_labels_in_the_notes_of_an_exported_folder_are_shown_as_they_are(no: str, yes: str, said: str, tmp_path: Path):
    model = predictor_of("equal")
    model.model.tasks["equal"] = model.task("equal").model_copy(update={"labels": (no, yes)})
    wanted = Wanted(model, ["equal"])
    write_card(EXPORTERS["sentence-transformers"], wanted, {"equal": Compared(3, 1e-7)}, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert f"binary, separate: {no}, {yes}" in cells(text)
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    (note,) = [token for token in tokens if token.type == "inline" and "cosine is above" in token.content]
    assert "".join(child.content for child in note.children or ()) == f"equal: {said}"
