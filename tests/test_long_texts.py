"""Texts beyond 512 tokens: memory, token budget, data check, predictions, graphs, the server, the benchmark."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import toy_exports
import toy_run
from test_window import Largest

from benchmarks import long_texts
from mtbert.recipe.settings import validate_recipe
from mtbert.training.assemble import assemble, check_data
from mtbert.use.export.check import compare
from mtbert.use.export.onnx import folder_answers
from mtbert.use.predictor import Predictor
from mtbert.use.serve.limits import Limits
from mtbert.use.serve.service import Service
from mtbert.yaml_files import merge


def recipe(folder: Path, words: list[int], max_length: int) -> dict[str, object]:
    """Writes an encoder with a window of 8 and texts of the given numbers of words; returns a recipe."""
    shape = {"model_type": "modernbert", "local_attention": 16, "max_position_embeddings": 8192}
    toy_run.encoder_folder(folder / "encoder", **shape)
    rng = np.random.default_rng(0)
    rows = [f"{i},{' '.join(rng.choice(toy_run.WORDS, n))},{i % 5}" for i, n in enumerate(words)]
    (folder / "data").mkdir()
    (folder / "data/sst.csv").write_text("\n".join(["id,sentence,sentiment", *rows, *rows]) + "\n")
    change = {"tasks": {"sst": {"dev": "sst.csv"}, "quora": None, "sts": None}, "model": {"max_length": max_length}}
    return merge(toy_run.raw_recipe(folder, epochs=1), change)


def test_a_step_on_texts_of_2048_tokens_needs_no_more_memory_with_more_texts(tmp_path: Path):
    raw = recipe(tmp_path, [3000] * 4, 2048)
    found = []
    for batch_size in (1, 4):
        change = {"tasks": {"sst": {"batch_size": batch_size}}, "train": {"token_budget": 2048}}
        run = assemble(validate_recipe(merge(raw, change), "r")).run()
        with Largest() as largest:
            run.step()
        found.append(largest.found)
    assert found[0] == found[1]
    # The widest rows are those of the gated network: 64 numbers for each token. All pairs of tokens would be 4 million.
    assert found[0] <= 2048 * 70


def test_a_text_of_8192_tokens_is_read_whole_by_training_check_and_prediction(tmp_path: Path):
    raw = recipe(tmp_path, [9, 600, 8190, 8191], 8192)
    settings = validate_recipe(raw, "r")
    made = assemble(settings)
    train = made.data["sst"].train
    assert sorted(train.lengths.tolist()) == sorted(2 * [11, 602, 8192, 8192])
    assert train.truncated == 2
    run = made.run()
    before = made.model.encoder.layers[1].qkv.weight.clone()
    run.step()
    assert not (before == made.model.encoder.layers[1].qkv.weight).all()
    answers = Predictor(made.model, made.tokenizer).predict("sst", ["a dog", " ".join(["cat"] * 9000)])
    assert len(answers) == 2
    assert any("cut to 8192 tokens" in line for line in check_data(settings).warnings)


def test_a_graph_reads_texts_beyond_512_tokens(tmp_path: Path):
    made = toy_exports.predictor("modernbert", ["hot"])
    made.model.max_length = 8192
    toy_exports.export_onnx(made, tmp_path)
    data = made.read("hot", ["the dog " * 350, "the cat"])
    assert int(data.lengths.max()) == 702
    assert compare(made.model, data, lambda data: folder_answers(tmp_path, data)).largest < 3e-5
    assert json.loads((tmp_path / "export.json").read_text())["max_length"] == 8192


@pytest.mark.parametrize(("max_length", "chosen", "most"), [(128, None, 20_000), (8192, None, 65_536), (8192, 99, 99)])
def test_a_server_takes_texts_that_fill_the_model(max_length: int, chosen: int | None, most: int):
    predictor = SimpleNamespace(model=SimpleNamespace(max_length=max_length))
    assert Service(predictor, None, Limits(characters=chosen)).longest_text == most  # type: ignore[arg-type]


def test_the_benchmark_measures_a_pass_and_draws_every_encoder(tmp_path: Path):
    point = long_texts.measure("ModernBERT", 64)
    assert point["seconds"] > 0
    assert point["bytes"] >= 0
    assert 1 <= point["passes"] <= long_texts.PASSES
    assert long_texts.config_of("BERT").max_length == 512
    found = {name: {64: point, 128: {"seconds": 1.0, "bytes": 2**20}} for name in long_texts.ENCODERS}
    long_texts.draw(found, tmp_path / "long-texts.svg")
    drawn = ET.parse(tmp_path / "long-texts.svg")
    texts = {re.sub(r"\s+", " ", element.text or "") for element in drawn.iter() if element.tag.endswith("text")}
    assert {*long_texts.ENCODERS, "tokens of the text", "128", "8,192"} <= texts
