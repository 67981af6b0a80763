"""The folder of an ONNX export: its list of files, and its script. The script splits words as mtbert does."""

import json
from pathlib import Path

import onnx
import onnxruntime
import toy_exports

from mtbert.data import words
from mtbert.use.export import predict_folder
from mtbert.use.export.graph import Graph, write_graph
from mtbert.use.export.int8 import quantize


def test_the_script_splits_words_as_mtbert_does():
    text = "Anna's flat, 2.5 kg \u0915\u094d\u200d\u0937 \u00e9_x \U0001f600-\u4f60\u597d"
    script = predict_folder.pre_tokenizers.Split(
        predict_folder.Regex(predict_folder.WORD_PATTERN), "removed", invert=True
    )
    assert [list(place) for _, place in script.pre_tokenize_str(text)] == words.finder("unicode")(text).tolist()


def test_export_json_lists_the_files_of_its_folder(tmp_path: Path):
    toy_exports.export_onnx(toy_exports.predictor("bert", ["score"]), tmp_path)
    listed = json.loads((tmp_path / "export.json").read_text())["files"]
    assert listed == ["README.md", "export.json", "predict.py", "score.onnx", "tokenizer.json"]


def test_the_large_weights_of_a_graph_that_is_rounded_are_removed(tmp_path: Path):
    file = tmp_path / "score.onnx"
    write_graph(toy_exports.predictor("bert", ["score"]).model, Graph("score", ("score",)), file)
    whole = onnx.load(file)
    onnx.save(whole, file, save_as_external_data=True, location="score.onnx.data", size_threshold=0)
    assert (tmp_path / "score.onnx.data").exists()
    quantize(file)
    assert [path.name for path in tmp_path.iterdir()] == ["score.onnx"]
    onnxruntime.InferenceSession(str(file))
