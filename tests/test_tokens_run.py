"""Tasks with a tag per word from recipe to report: trained, saved, scored, asked, resumed bitwise, and studied."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import commands
import pyarrow.parquet as pq
import pytest
import torch
import toy_run
import toy_words
import transformers
import yaml
from commands import Mtbert
from rich.console import Console
from safetensors.numpy import load_file
from stopped import assert_resumes_bitwise

from mtbert import export, load
from mtbert.recipe.files import load_recipe
from mtbert.training.start import start_run
from mtbert.use.export.stock import quiet

mtbert = commands.mtbert

SILENT = Console(quiet=True)
METRICS = ["f1", "precision", "recall", "accuracy"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run with tasks that read a CoNLL file, lists of words, and texts with spans beside a topic."""
    folder = tmp_path_factory.mktemp("words")
    toy_run.set_up(folder)
    toy_words.write(folder / "data")
    recipe = toy_run.raw_recipe(folder, lr=0.02, epochs=8)
    recipe["tables"] = {"texts": {"train": "texts.jsonl", "batch_size": 8}}
    words = {"type": "tokens", "inputs": "single", "batch_size": 8}
    recipe["tasks"] = {
        "ner": words | {"train": "words.conll", "losses": ["ce", "rdrop", "smart"]},
        "pos": words | {"train": "words.jsonl", "columns": {"text": "words", "label": "pos"}},
        "spans": {"type": "tokens", "inputs": "single", "table": "texts", "label": "entities"},
        "topic": {"type": "classification", "inputs": "single", "table": "texts", "label": "topic", "pooling": "mean"},
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    console = Console(record=True, width=250, file=io.StringIO())
    start_run(load_recipe(str(folder / "mine.yaml")), folder / "run", console)
    (folder / "said.txt").write_text(console.export_text())
    return folder


def test_all_tasks_are_learned_and_their_losses_logged(folder: Path, said: Callable[..., str]):
    found = json.loads(said("evaluate", folder / "run", "--json"))["tasks"]
    for name in ("ner", "pos", "spans"):
        assert list(found[name]["metrics"]) == METRICS
        assert found[name]["metrics"]["f1"] > 0.95 > 0.6 > found[name]["constant"]["f1"], name
    assert found["ner"]["labels"] == ["O", "B-animal", "I-animal", "B-art", "I-art"]
    assert found["pos"]["labels"] == ["ADJ", "DET", "NOUN", "VERB"]
    assert found["topic"]["metrics"]["accuracy"] > 0.5
    logged = (folder / "run/metrics.jsonl").read_text()
    assert all(f'"{key}"' in logged for key in ("ner.ce", "ner.rdrop", "ner.smart", "spans.ce", "topic.ce"))


def test_labels_of_an_older_scheme_are_repaired_and_counted(folder: Path):
    told = (folder / "said.txt").read_text()
    begun = sum(tag[0] == "B" for _, tags in toy_words.sentences(60) for tag in tags)
    assert f"words.conll: {begun} tags with I- where an entity begins, read as B- (first: line 1)." in told


def test_the_model_keeps_its_splitter(folder: Path):
    card = json.loads((folder / "run/best/mtbert.json").read_text())["tasks"]
    assert {name: task["splitter"] for name, task in card.items()} == {
        "ner": "unicode-joined", "pos": "unicode-joined", "spans": "unicode", "topic": None
    }  # fmt: skip


def test_predictions_on_dev_are_kept_with_the_words_of_each_text(folder: Path):
    kept = load_file(folder / "run/best/predictions.safetensors")
    offsets = kept["ner.offsets"]
    assert kept["ner.raw"].shape == (offsets[-1], 5)
    assert kept["ner.decided"].shape == (offsets[-1],)
    assert len(offsets) == 7  # 6 of 60 texts
    assert "topic.offsets" not in kept


def test_the_check_of_the_data_counts_entities_and_tags(folder: Path, said: Callable[..., str]):
    lines = [line.split() for line in said("data", "check", folder / "mine.yaml").splitlines()]
    counts = {words[0] for words in lines if words[1:2] and words[0] in ("animal", "art", "NOUN", "DET")}
    assert counts == {"animal", "art", "NOUN", "DET"}
    assert any(words[:4] == ["share", "of", "words", "in"] for words in lines)


def test_evaluate_shows_entities_and_their_confusion(folder: Path, said: Callable[..., str]):
    found = said("evaluate", folder / "run", "--task", "ner")
    assert "ner, by entity" in found
    assert "ner: true entity (rows) by answer (columns, numbered as rows):" in found
    assert "pos, by tag" in said("evaluate", folder / "run", "--task", "pos")


def test_predict_gives_spans_in_the_text_as_it_is(folder: Path, said: Callable[..., str], tmp_path: Path):
    (tmp_path / "in.csv").write_text('text,n\n"  the is, the DOG sleeps.",1\n')
    for task in ("spans", "ner"):
        asked = ("predict", folder / "run", "--task", task, "--input", tmp_path / "in.csv", "--overwrite")
        for name in ("a.csv", "a.jsonl", "a.parquet"):
            said(*asked, "--output", tmp_path / name)
        (found,) = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
        (span,) = found["spans"]
        assert 0.2 < span["p"] < 1
        assert {key: value for key, value in span.items() if key != "p"} == {
            "start": 14, "end": 24, "label": "animal", "text": "DOG sleeps"
        }  # fmt: skip
        with (tmp_path / "a.csv").open(newline="") as file:
            (row,) = csv.DictReader(file)
        assert json.loads(row["spans"]) == found["spans"]
        assert pq.read_table(tmp_path / "a.parquet").to_pylist()[0]["spans"] == found["spans"]


def test_a_pipeline_of_transformers_finds_the_same_entities_in_an_exported_folder(folder: Path, tmp_path: Path):
    done = export(folder / "run", "transformers", tmp_path / "out", ["spans"])
    assert done.notes["spans"][0].startswith("A word has the tag of its first token")
    with quiet():
        ask = transformers.pipeline("token-classification", str(done.path), aggregation_strategy="first")
    texts = ["The dog barks. a new film is very good!", "the cat sleeps, why?", "how old"]
    predictor = load(folder / "run")
    predictor.model.compute = torch.float32
    for text, answer in zip(texts, predictor.predict("spans", texts), strict=True):
        ours = [(span["start"], span["end"], span["label"]) for span in answer["spans"]]
        assert [(one["start"], one["end"], one["entity_group"]) for one in ask(text)] == ours


def test_predict_gives_tags_of_given_words_and_answers_can_be_scored(folder: Path, said: Callable[..., str]):
    source = folder / "data/words.jsonl"
    said("predict", folder / "run", "--task", "pos", "--input", source, "--output", folder / "a.jsonl")
    rows = [json.loads(line) for line in (folder / "a.jsonl").read_text().splitlines()]
    assert all(len(row["words"]) == len(row["tags"]) == len(row["p"]) for row in rows)
    again = ["--set", "tasks.pos.columns.label=tags", "--json"]
    scores = json.loads(said("evaluate", folder / "run", "--task", "pos", "--split", folder / "a.jsonl", *again))
    assert scores["tasks"]["pos"]["metrics"] == dict.fromkeys(METRICS, 1.0)
    said(
        "predict",
        folder / "run",
        "--task",
        "spans",
        "--input",
        folder / "data/texts.jsonl",
        "--output",
        folder / "b.jsonl",
    )
    again = ["--set", "tasks.spans.columns.label=spans", "--json"]
    scores = json.loads(said("evaluate", folder / "run", "--task", "spans", "--split", folder / "b.jsonl", *again))
    assert scores["tasks"]["spans"]["metrics"] == dict.fromkeys(METRICS, 1.0)


def test_predict_reads_a_conll_file_without_tags(folder: Path, said: Callable[..., str], tmp_path: Path):
    (tmp_path / "in.conll").write_text("the\ndog\nsleeps\n\na\nfilm\n")
    said("predict", folder / "run", "--task", "ner", "--input", tmp_path / "in.conll", "--output", tmp_path / "a.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == [["the", "dog", "sleeps"], ["a", "film"]]
    assert [(s["start"], s["end"], s["text"]) for row in rows for s in row["spans"]] == [
        (4, 14, "dog sleeps"), (2, 6, "film")
    ]  # fmt: skip


def test_all_tasks_answer_one_text_together(folder: Path, said: Callable[..., str]):
    spoken = said("predict", folder / "run", "--text", "the dog sleeps").splitlines()
    assert [line.split()[0] for line in spoken] == ["ner", "pos", "spans", "topic"]
    assert "label animal text dog sleeps p 0." in spoken[0]
    (found,) = load(folder / "run")(["the dog sleeps"])
    assert found["pos"]["tags"] == ["DET", "NOUN", "VERB"]
    assert [s["text"] for s in found["spans"]["spans"]] == ["dog sleeps"]
    assert found["topic"]["label"] == "animal"
    moved = load(folder / "run").predict(["spans", "topic"], ["  the dog sleeps "])[0]["spans"]["spans"]
    assert [(s["start"], s["text"]) for s in moved] == [(6, "dog sleeps")]


def test_a_text_without_any_token_and_words_behind_the_cut_have_no_answer(folder: Path, mtbert: Mtbert):
    predictor = load(folder / "run")
    long = " ".join(["the is"] * 20 + ["old dog"])
    cut, nothing = predictor.predict("pos", [long, "\u200b"])
    assert cut["tags"][-2:] == [None, None]
    assert cut["tags"].index(None) == 22  # 24 tokens with the special ones
    assert nothing == {"words": ["\u200b"], "tags": [None], "p": [None]}
    assert predictor.predict("ner", [long, "\u200b"]) == [{"spans": []}, {"spans": []}]
    tags = ["DET", "VERB"] * 20 + ["ADJ", "NOUN"]
    (folder / "long.jsonl").write_text(json.dumps({"words": long.split(), "pos": tags}) + "\n")
    done = mtbert("evaluate", folder / "run", "--task", "pos", "--split", folder / "long.jsonl", "--json")
    assert "task pos: 20 of 42 words have no token, because the text is cut" in done.err
    assert json.loads(done.out)["tasks"]["pos"]["metrics"]["accuracy"] <= 22 / 42


def test_vectors_of_texts_are_refused(folder: Path, mtbert: Mtbert):
    done = mtbert("predict", folder / "run", "--task", "ner", "--text", "a", "--vectors", folder / "v.npy")
    assert "task ner: has a state for each word, and no vector of a text. Ask another task." in done.mistake


def test_the_report_shows_texts_with_their_entities(folder: Path, said: Callable[..., str]):
    said("report", folder / "run")
    page = (folder / "run/report.html").read_text()
    assert "animal 5-6" in page


def test_a_run_stopped_in_the_middle_resumes_bitwise(folder: Path, tmp_path: Path):
    assert_resumes_bitwise(folder / "mine.yaml", folder / "run", tmp_path / "run", at=10)


def test_a_tag_that_dev_alone_has_is_one_line_that_names_the_place(folder: Path, mtbert: Mtbert):
    (folder / "data/dev.conll").write_text("the O\n\na O\ndog B-animals\n")
    done = mtbert("train", folder / "mine.yaml", "--set", "tasks.ner.dev=dev.conll", "--out", folder / "no")
    assert "dev.conll, line 3, column 'label': 'B-animals' is not one of the classes" in done.mistake
    assert "Did you mean 'B-animal'?" in done.mistake
