"""ONNX graphs of every answer type, head, family and calibration answer as mtbert does, also where torch is missing."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import toy_exports
from torch.testing import assert_close
from toy_exports import TASKS, TEXTS

from mtbert import scoring
from mtbert.data.words import first_pieces
from mtbert.model.families.known import FAMILIES
from mtbert.model.settings import Pal
from mtbert.use.export import engine, predict_folder
from mtbert.use.export.check import compare, some_rows
from mtbert.use.export.engine import GraphEngine, make_engine
from mtbert.use.export.graph import Graph, graphs_of, write_graph
from mtbert.use.export.int8 import quantize
from mtbert.use.export.known import EXPORTERS
from mtbert.use.export.onnx import folder_answers
from mtbert.use.predictor import Predictor

# Forms of input, and the tasks that share a graph if they are exported together.
FORMS = {
    "single": ["classes", "hot", "own", "order", "yes", "platt", "steps", "score", "sets", "entities", "tags"],
    "single-joined": ["joined"],
    "packed": ["pair", "same"],
    "packed-plain": ["plain"],
    "separate": ["two", "near", "equal"],
    "separate-candidates": ["search"],
}


@pytest.fixture(scope="module")
def whole() -> Predictor:
    """A predictor with a task of every type and head."""
    return toy_exports.predictor()


@pytest.fixture(scope="module")
def folder(whole: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tasks of :func:`whole`, exported together."""
    made: Path = tmp_path_factory.mktemp("export")
    toy_exports.export_onnx(whole, made, "together")
    return made


def close(value: Any, rel: float = 0.0) -> Any:
    """Returns ``value``, in which each number equals every number that differs from it only by rounding."""
    if isinstance(value, float):
        return pytest.approx(value, rel=rel, abs=2e-6)
    if isinstance(value, dict):
        return {key: close(item, rel) for key, item in value.items()}
    return [close(item, rel) for item in value] if isinstance(value, list) else value


def test_tasks_with_the_same_form_of_input_share_a_graph(whole: Predictor, folder: Path):
    assert sorted(name for names in FORMS.values() for name in names) == sorted(TASKS)
    graphs = graphs_of(whole.model, list(TASKS), together=True)
    assert {graph.name: list(graph.tasks) for graph in graphs if not graph.vectors_only} == FORMS
    assert [graph.name for graph in graphs if graph.vectors_only] == ["separate.vector", "separate-candidates.vector"]
    assert {path.name for path in folder.iterdir()} == {
        *(graph.file for graph in graphs),
        "export.json",
        "predict.py",
        "tokenizer.json",
    }


@pytest.mark.parametrize("name", TASKS)
def test_the_folder_answers_as_mtbert_does(name: str, whole: Predictor, folder: Path):
    rows = toy_exports.rows_of(whole.tasks[name])
    listed = [(row,) if isinstance(row, str) else row for row in rows]
    found = predict_folder.Folder(folder).answers(name, listed)
    assert found == close(whole.predict(name, rows))
    assert len({json.dumps(answer) for answer in found}) > 2  # otherwise equal answers would show nothing


@pytest.mark.parametrize("name", TASKS)
def test_every_number_is_that_of_mtbert(name: str, whole: Predictor, folder: Path):
    data = whole.read(name, toy_exports.rows_of(whole.tasks[name]))
    compared = compare(whole.model, data, lambda data: folder_answers(folder, data))
    assert (compared.answers, compared.largest < 1e-6) == (len(TEXTS), True)


def test_vectors_are_those_that_heads_read(whole: Predictor, folder: Path):
    script = predict_folder.Folder(folder)
    for name in ("classes", "hot", "pair"):
        rows = toy_exports.rows_of(whole.tasks[name])
        listed = [(row,) if isinstance(row, str) else row for row in rows]
        found = np.stack(script.tensors(name, listed)["vector"])
        np.testing.assert_allclose(found, whole.vectors(name, rows), atol=2e-6)
    found = script.vectors("near", TEXTS)
    np.testing.assert_allclose(found, whole.vectors("near", [(text, text) for text in TEXTS])[:, 0], atol=2e-6)


@pytest.mark.parametrize("name", ["near", "search"])
def test_the_graph_of_single_texts_is_compared_with_the_vectors_of_mtbert(name: str, whole: Predictor, folder: Path):
    data = whole.read(name, toy_exports.rows_of(whole.tasks[name]))
    found = folder_answers(folder, data)
    ours = np.stack([x.numpy() for x in scoring.pooled_vectors(whole.model, data)], 1)
    np.testing.assert_allclose(found["single_vectors"], ours, atol=2e-6)
    np.testing.assert_allclose(found["vectors"], ours, atol=2e-6)


def test_graphs_of_different_tasks_have_different_files():
    made = toy_exports.task("sts", inputs="separate"), toy_exports.task("sts-vector")
    model = SimpleNamespace(tasks={one.name: one for one in made})
    graphs = graphs_of(model, list(model.tasks), together=False)  # type: ignore[arg-type]
    assert [graph.file for graph in graphs] == ["sts.onnx", "sts.vector.onnx", "sts-vector.onnx"]


def test_a_graph_does_not_overwrite_another(tmp_path: Path):
    made = toy_exports.predictor("bert", ["score"])
    (tmp_path / "score.onnx").touch()  # as if the file system took a task called SCORE for the same
    with pytest.raises(FileExistsError, match=re.escape(f"{tmp_path}/score.onnx")):
        toy_exports.export_onnx(made, tmp_path)


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_answers_as_mtbert_does(kind: str, tmp_path: Path):
    own = [] if toy_exports.ENCODERS[kind].native is None else ["own"]
    made = toy_exports.predictor(kind, ["hot", *own, "entities"])
    toy_exports.export_onnx(made, tmp_path, "together")
    for name in made.tasks:
        data = made.read(name, TEXTS)
        assert compare(made.model, data, lambda data: folder_answers(tmp_path, data)).largest < 1e-6


def test_tasks_with_adapters_and_own_top_layers_answer_as_mtbert_does(tmp_path: Path):
    pal = Pal(width=6, heads=3, tasks=("hot",))
    made = toy_exports.predictor("bert", ["classes", "hot"], layers=2, adapters=pal, unshare=1)
    toy_exports.export_onnx(made, tmp_path, "together")
    for name in made.tasks:
        assert compare(made.model, made.read(name, TEXTS), lambda data: folder_answers(tmp_path, data)).largest < 1e-6


def test_an_engine_of_graphs_gives_the_predictions_and_vectors_of_the_model(whole: Predictor, folder: Path):
    ask = GraphEngine(folder, _of(whole))
    singles = whole.read_together(FORMS["single"][:-2], TEXTS)
    pairs = whole.read_together(
        ["pair", "same", "plain", "two", "near", "equal"], toy_exports.rows_of(TASKS["pair"][0])
    )
    search = [whole.read("search", toy_exports.rows_of(TASKS["search"][0]))]
    for data in (singles, pairs, search):
        expected, found = scoring.predict_with_vectors(whole.model, data), ask(data, vectors=True)
        assert list(found) == [one.task.name for one in data]
        for name in found:
            assert len(found[name]) == len(expected[name])
            for ours, theirs in zip(found[name], expected[name], strict=True):
                assert_close(ours, theirs, rtol=1e-4, atol=2e-6)


def _of(made: Predictor) -> list[Graph]:
    return [graph for graph in graphs_of(made.model, list(made.tasks), together=True) if not graph.vectors_only]


def test_an_engine_gives_words_their_tags_and_cuts_long_batches(
    whole: Predictor, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    ask = GraphEngine(folder, _of(whole))
    data = whole.read_together(["entities", "tags", "joined", "classes", "score"], TEXTS)
    data[-1] = some_rows(data[-1], 3)  # not every task has an example in each row
    expected = scoring.predict_together(whole.model, data)
    monkeypatch.setattr(engine, "PADDED_TOKENS", 20)
    found = ask(data)
    for name in expected:
        assert_close(found[name][0], expected[name], rtol=1e-4, atol=2e-6, equal_nan=True)
    assert expected["tags"].isnan().any()  # some words are cut off


def test_a_pass_of_an_engine_has_a_limited_number_of_padded_tokens(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine, "PADDED_TOKENS", 10)
    slices = engine._chunks_of(np.array([1, 1, 5, 5, 10, 12]))
    assert [(each.start, each.stop) for each in slices] == [(0, 2), (2, 4), (4, 5), (5, 6)]


def test_an_engine_can_be_made_of_a_model_alone():
    made = toy_exports.predictor("bert", ["classes"])
    data = made.read("classes", TEXTS)
    (found,) = make_engine(made.model, threads=1)([data])["classes"]
    assert_close(found, scoring.predict_examples(made.model, data), rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 16), (5, 1), (3, 7)])
def test_a_graph_takes_any_number_of_texts_of_any_length(shape: tuple[int, int], folder: Path):
    session = onnxruntime.InferenceSession(str(folder / "packed.onnx"))
    inputs = {each.name: np.ones(shape, np.int64) for each in session.get_inputs()}
    (found,) = session.run(["pair.probabilities"], inputs)
    assert found.shape == (shape[0], 3)


def test_inputs_and_outputs_have_names_of_their_own(folder: Path):
    def names(file: str) -> tuple[list[str], list[str]]:
        session = onnxruntime.InferenceSession(str(folder / file))
        return [each.name for each in session.get_inputs()], [each.name for each in session.get_outputs()]

    three = ["input_ids", "attention_mask", "token_type_ids"]
    assert names("packed-plain.onnx") == (three[:2], ["plain.score", "plain.prediction", "plain.vector"])
    pair, outputs = names("separate.onnx")
    assert pair == [*three, *(f"{name}_2" for name in three)]
    assert outputs[:5] == ["two.label", "two.probabilities", "two.prediction", "two.vector", "two.vector_2"]
    assert outputs[5:9] == ["near.score", "near.prediction", "near.vector", "near.vector_2"]
    assert names("separate.vector.onnx") == (three, ["two.vector", "near.vector", "equal.vector"])


def test_a_graph_says_what_its_tasks_are(folder: Path):
    graph = onnx.load(folder / "single.onnx")
    metadata = {each.key: each.value for each in graph.metadata_props}
    assert (metadata["opset"], metadata["max_length"]) == ("18", "16")
    assert [each.version for each in graph.opset_import if each.domain == ""] == [18]
    tasks = json.loads(metadata["tasks"])
    assert list(tasks) == FORMS["single"]
    assert tasks["score"] == {
        "type": "regression",
        "inputs": "single",
        "labels": None,
        "range": [1.0, 5.0],
        "fitted": {},
    }
    assert tasks["sets"]["fitted"] == {"threshold": pytest.approx([0.3] * 3), "scale": pytest.approx(1.7)}


BLOCKED = """
import runpy, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "mtbert", "onnx", "onnxscript"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_script(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the folder's script in a process in which torch, transformers and mtbert cannot be imported."""
    return subprocess.run(
        [sys.executable, "-I", "-c", BLOCKED, str(folder / "predict.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("texts", "tasks"),
    [
        (["Dogs sleep, cats eat."], [*FORMS["single"], "joined"]),
        (["the dog", "a film"], ["pair", "same", "plain", "two", "near", "equal", "search"]),
        (["the dog", "a film", "a dog", "why"], ["search"]),
    ],
)
def test_the_script_answers_where_torch_is_missing(
    texts: Sequence[str], tasks: Sequence[str], whole: Predictor, folder: Path
):
    options = [part for text in texts[1:] for part in ("--text-pair", text)]
    done = run_script(folder, "--text", texts[0], *options)
    assert (done.returncode, done.stderr) == (0, "")
    given = texts[0] if len(texts) == 1 else tuple(texts)
    assert max(len(number) for number in re.findall(r"0\.0*(\d+)", done.stdout)) == 6  # significant digits
    assert json.loads(done.stdout) == close({name: whole.predict(name, [given])[0] for name in tasks}, rel=5e-6)


def test_the_script_answers_one_task_and_names_those_that_it_has(whole: Predictor, folder: Path):
    done = run_script(folder, "--task", "score", "--text", "good")
    assert json.loads(done.stdout) == close(whole.predict("score", "good")[0])
    wrong = run_script(folder, "--task", "scores", "--text", "good")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "no task 'scores' takes 1 texts here; these do: classes, hot" in wrong.stderr


def test_the_script_joins_the_words_of_an_entity_and_multiplies_their_probabilities():
    words, p = [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)], [0.5, 0.5, 0.9, None, 0.8]
    tags = ["I-x", "I-x", "B-x", None, "I-y"]
    assert predict_folder.spans_of("a b c d e", words, tags, p) == [
        {"start": 0, "end": 3, "label": "x", "text": "a b", "p": 0.25},
        {"start": 4, "end": 5, "label": "x", "text": "c", "p": 0.9},
        {"start": 8, "end": 9, "label": "y", "text": "e", "p": 0.8},
    ]


def test_the_script_finds_the_first_token_that_overlaps_a_word():
    pieces, words = [(0, 3), (3, 4), (6, 7)], [(0, 2), (2, 4), (4, 5), (5, 7)]
    encoding = SimpleNamespace(offsets=[(0, 0), *pieces, (0, 0)], sequence_ids=[None, 0, 0, 0, None])
    found = predict_folder.first_tokens(encoding, words)  # type: ignore[arg-type]
    assert found == [1, 1, -1, 3]
    ours = first_pieces(np.array(pieces), np.array(words))
    assert [i - 1 if i > 0 else i for i in found] == ours.tolist()


def test_the_script_reads_texts_without_white_space_at_their_ends(folder: Path, monkeypatch: pytest.MonkeyPatch):
    script, read = predict_folder.Folder(folder), []
    monkeypatch.setattr(script, "_encoded", lambda texts, suffix: read.append(texts) or {})
    script._inputs({"inputs": "packed", "texts": 2}, [(" a dog", "the\ncat\n")])
    script._inputs({"inputs": "separate", "texts": 2}, [(" a dog", "the cat\t")])
    assert read == [[("a dog", "the\ncat")], ["the cat"], ["a dog"]]


def _largest_weight(file: Path) -> int:
    """Returns the largest absolute value of the weights that are stored as 8-bit integers."""
    weights = (onnx.numpy_helper.to_array(each) for each in onnx.load(file).graph.initializer)
    return max(int(np.abs(x.astype(int)).max()) for x in weights if x.dtype == np.int8 and x.ndim == 2)


def test_int8_rounds_the_weights_of_the_encoder_and_not_those_of_heads(tmp_path: Path):
    made = toy_exports.predictor("bert", ["hot"])
    graph, file = Graph("hot", ("hot",)), tmp_path / "hot.onnx"
    write_graph(made.model, graph, file)
    before = {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(file).graph.initializer}
    quantize(file)
    assert _largest_weight(file) in range(60, 65)  # 7 bits, also if this processor could use 8
    wide = tmp_path / "8.onnx"
    write_graph(made.model, graph, wide)
    quantize(wide, reduce_range=False)
    assert _largest_weight(wide) == 127
    after = {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(file).graph.initializer}
    heads = [name for name in before if ".heads." in name and name.endswith("weight")]
    assert len(heads) == 2
    for name in heads:
        np.testing.assert_array_equal(after[f"{name}_Transposed"], before[name].T)
    rounded = [name for name in after if after[name].dtype == np.int8 and after[name].ndim == 2]
    assert len(rounded) >= 4
    scales = [name for name in after if name.endswith("_scale") and after[name].ndim == 1 and after[name].size > 1]
    assert scales  # a scale for each column


def test_the_usage_of_a_folder_names_a_task_of_it(whole: Predictor, tmp_path: Path):
    wanted = toy_exports.Wanted(whole, ["pair"], frozenset())
    usage = EXPORTERS["onnx"].usage(wanted)
    assert 'python predict.py --task pair --text "A text." --text-pair "Another text."' in usage
    assert "pair.onnx" in usage


def test_a_task_alone_has_outputs_without_its_name(tmp_path: Path):
    made = toy_exports.predictor("bert", ["score"])
    write_graph(made.model, Graph("score", ("score",)), tmp_path / "score.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "score.onnx"))
    assert [each.name for each in session.get_outputs()] == ["score", "prediction", "vector"]
    assert session.get_outputs()[0].type == "tensor(double)"  # the range may be too large for float32
