"""The engines of the server give the same answers and vectors for every form of task."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from toy_server import LIKE, MOOD, NAMES, SAME, SEARCH, TOPICS, near, predictor, serving, texts

from mtbert.model.settings import Pal
from mtbert.use.export import Differs, engine
from mtbert.use.export.engine import make_engine
from mtbert.use.predictor import Predictor
from mtbert.use.serve import engines
from mtbert.use.serve.engines import Engine, TorchEngine, difference, engine_named, odd_answers
from mtbert.use.serve.together import Asked, BatchResult, answer_all


@pytest.fixture(scope="module")
def made() -> Predictor:
    return predictor(MOOD, TOPICS, NAMES, SAME, LIKE, SEARCH)


@pytest.fixture(scope="module")
def onnx(made: Predictor) -> Engine:
    return engine_named("onnx", made.model, "fp32")


def both(made: Predictor, onnx: Engine, *asked: Asked) -> list[tuple[BatchResult, BatchResult]]:
    """Returns a pair of results for each request: of the onnx engine, and of the PyTorch engine."""
    return list(zip(answer_all(made, onnx, asked), answer_all(made, TorchEngine(made.model), asked), strict=True))


def rows(size: int, number: int = 7) -> tuple[tuple[str, ...], ...]:
    columns: Sequence[Any] = [texts(number, seed=seed) for seed in range(size)]
    return tuple(zip(*columns, strict=True))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_both_engines_give_the_same_answers(made: Predictor, onnx: Engine, size: int):
    names = tuple(made.taking(size))
    ((found, wanted),) = both(made, onnx, Asked(names, rows(size)))
    assert near(found.answers, wanted.answers)
    assert [list(answers) for answers in found.answers] == [list(names)] * 7
    (alone,) = both(made, onnx, Asked(names[:1], rows(size)[:1]))
    assert near(alone[0].answers, alone[1].answers)


def test_both_engines_give_each_request_its_own_answers_in_one_batch(made: Predictor, onnx: Engine):
    asked = [
        Asked(("mood",), (("the cat",),)),
        Asked(("names", "topics"), (("a dog runs very fast and a bird sings",), ("bird",))),
        Asked(("like", "same"), (("the cat", "a dog"),)),
        Asked(("search",), (("the cat", "a dog", "bird", "a cat"), ("the cat", "a bird"))),
    ]
    for found, wanted in both(made, onnx, *asked):
        assert near(found.answers, wanted.answers)
        assert found.tokens == wanted.tokens


@pytest.mark.parametrize(("task", "size"), [("mood", 1), ("topics", 1), ("same", 2), ("like", 2), ("search", 2)])
def test_both_engines_give_the_same_vectors(made: Predictor, onnx: Engine, task: str, size: int):
    ((found, wanted),) = both(made, onnx, Asked((task,), rows(size), vectors=True))
    np.testing.assert_allclose(found.vectors, wanted.vectors, atol=1e-5)


def test_texts_longer_than_the_model_reads_and_batches_of_very_different_lengths(made: Predictor, onnx: Engine):
    given = tuple((text,) for text in ["bird", "the cat " * 60, *texts(5), "a dog " * 12])
    ((found, wanted),) = both(made, onnx, Asked(("mood", "names"), given))
    assert near(found.answers, wanted.answers)


def test_a_task_with_an_adapter_gets_its_own_answers():
    made = predictor(MOOD, TOPICS, adapters=Pal(kind="attention", width=4, heads=2, tasks=("mood",)))
    ((found, wanted),) = both(made, make_engine(made.model), Asked(("mood", "topics"), rows(1)))
    assert near(found.answers, wanted.answers)


def test_the_server_answers_with_the_onnx_engine(made: Predictor, onnx: Engine):
    with serving(made, engine=onnx) as server:
        found = server.post("/v1/predict", {"texts": ["the cat", ["a dog", "the bird"]]})["answers"]
        assert near(found[0], made(["the cat"])[0])
        assert near(found[1], made([("a dog", "the bird")])[0])


def test_what_an_engine_lacks_is_one_line(made: Predictor, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match=r"^--engine onnx has no --precision bf16\. Leave --precision out\.$"):
        engine_named("onnx", made.model, "bf16")
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "onnxscript" else name)
    wanted = '--engine onnx-int8: onnxscript is not installed. Run: pip install "mtbert[export,serve]"'
    with pytest.raises(ValueError, match=re.escape(wanted)):
        engine_named("onnx-int8", made.model, "fp32")


def test_the_torch_engine_has_the_precision_that_was_asked_for(made: Predictor):
    engine_named("torch", made.model, "bf16")
    assert made.model.compute == torch.bfloat16
    engine_named("torch", made.model, "fp32")
    assert made.model.compute == torch.float32


def test_an_engine_that_answers_otherwise_than_pytorch_is_found_and_refused(made: Predictor, onnx: Engine):
    assert odd_answers("onnx", difference(made, onnx)) == ()

    def other(data: Any, *, vectors: bool = False) -> Any:
        found = dict(onnx(data, vectors=vectors))
        for name in {"like"} & set(found):  # scores whose raw predictions are shares of the range
            found[name] = (found[name][0] + 0.2, *found[name][1:])
        return found

    apart = difference(made, other)
    assert apart == pytest.approx(0.2, abs=1e-4)
    said = f"^--engine onnx: answers to toy texts differ from those of PyTorch by up to {apart:.1e}; at most 0.0001 is"
    with pytest.raises(Differs, match=said):
        odd_answers("onnx", apart)
    with pytest.raises(Differs, match="by up to nan"):
        odd_answers("onnx", float("nan"))
    assert odd_answers("onnx-int8", 0.09) == ()
    (warning,) = odd_answers("onnx-int8", 0.11)
    assert warning.startswith("--engine onnx-int8: answers to toy texts differ from those of PyTorch by up to 1.1e-01.")


def test_texts_of_mixed_lengths_are_hardly_padded(made: Predictor, onnx: Engine, monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    padded = engine._padded

    def counted(*given: Any) -> Any:
        found = padded(*given)
        sizes.append(found["input_ids"].size)
        return found

    monkeypatch.setattr(engine, "_padded", counted)
    given = [" ".join(["cat"] * (1 + i * 7 % 38)) for i in range(100)]  # 1 to 38 tokens, mixed
    data = made.read("mood", given)
    onnx([data])
    assert int(data.lengths.sum()) <= sum(sizes) < 1.25 * int(data.lengths.sum())
