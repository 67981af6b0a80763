"""The comparison of an exported model's answers with those of the original: what passes, and what is refused and how.

Dimension key: B examples, W words, K numbers of an answer.
"""

import re
from collections.abc import Mapping

import numpy as np
import pytest
import torch
import toy_exports
from torch import Tensor
from toy_exports import TEXTS

from mtbert import scoring
from mtbert.answers.fitting import FittedName
from mtbert.batch import Dataset, Example, Examples
from mtbert.use.export import Differs
from mtbert.use.export.check import answer_tensors, compare, compare_scores, some_rows
from mtbert.use.predictor import Predictor

NAMES = ["classes", "platt", "steps", "score", "sets", "entities"]


@pytest.fixture(scope="module")
def whole() -> Predictor:
    return toy_exports.predictor("bert", NAMES)


def answers(made: Predictor, data: Dataset, *, clamped: bool, isotonic: bool = True) -> dict[str, Tensor]:
    """Returns the answers that an exact export gives, without the raw predictions."""
    fitted: dict[FittedName, Tensor] = made.model.fitted(data.task.name)
    if not isotonic:
        fitted.pop("knots", None)
    return answer_tensors(data.task, scoring.predict_examples(made.model, data), fitted, clamped=clamped)


def with_raw(made: Predictor, data: Dataset) -> dict[str, Tensor]:
    return following(made, data, scoring.predict_examples(made.model, data))


def following(made: Predictor, data: Dataset, raw: Tensor) -> dict[str, Tensor]:
    """Returns raw predictions with all answers that follow from them."""
    return answer_tensors(data.task, raw, made.model.fitted(data.task.name), clamped=True) | {"prediction": raw}


def check(made: Predictor, data: Dataset, found: Mapping[str, Tensor]) -> float:
    return compare(made.model, data, lambda _: found).largest


@pytest.mark.parametrize("name", NAMES)
def test_exact_answers_pass_with_and_without_raw_predictions(name: str, whole: Predictor):
    data = whole.read(name, TEXTS)
    assert check(whole, data, with_raw(whole, data)) == 0.0
    assert check(whole, data, answers(whole, data, clamped=False, isotonic=False)) == 0.0


@pytest.mark.parametrize(
    ("name", "key"), [("classes", "probabilities"), ("score", "score"), ("entities", "probabilities")]
)
def test_a_small_difference_is_reported_and_a_larger_one_refused_with_both_numbers(
    name: str, key: str, whole: Predictor
):
    data = whole.read(name, TEXTS)
    unit = 4.0 if name == "score" else 1.0  # the range is 1 to 5
    exact = answers(whole, data, clamped=False)

    def moved(by: float) -> dict[str, Tensor]:
        changed = exact[key].clone()
        changed[3] += by * unit
        return exact | {key: changed}

    assert check(whole, data, moved(5e-5)) == pytest.approx(5e-5, rel=0.01)
    with pytest.raises(Differs, match=r"They differ by 2\.0e-04, at most 0\.0001 is allowed") as error:
        check(whole, data, moved(2e-4))
    theirs, ours = (f"{float(x[3].flatten()[0]):.6g}" for x in (moved(2e-4)[key], exact[key]))
    assert re.search(rf"task {name}, id '?\d'?: .* answers {key} {theirs}.*, ours {ours}", str(error.value))


def test_a_score_is_compared_before_it_is_clamped(whole: Predictor):
    data = whole.read("score", TEXTS)
    exact = answers(whole, data, clamped=False)
    outside = (exact["score"] < 1) | (exact["score"] > 5)
    assert outside.any()
    with pytest.raises(Differs, match="answers score"):
        check(whole, data, answers(whole, data, clamped=True))


def test_answers_must_follow_from_raw_predictions(whole: Predictor):
    for name, wrong in (("platt", 0.02), ("steps", 0.02)):
        data = whole.read(name, TEXTS)
        found = with_raw(whole, data)
        with pytest.raises(Differs, match=f"task {name}, .* answers probabilities"):
            check(whole, data, found | {"probabilities": found["probabilities"] + wrong})
        with pytest.raises(Differs, match=f"task {name}, "):
            check(whole, data, found | {"prediction": found["prediction"] + wrong})


def test_a_steep_isotonic_map_magnifies_no_rounding(whole: Predictor):
    made = toy_exports.predictor("bert", ["steps"])
    data = made.read("steps", TEXTS)
    x_B = scoring.predict_examples(made.model, data).double()
    edges = np.sort(np.concatenate([(x_B - 1e-7).numpy(), (x_B + 1e-7).numpy()]))
    knots = np.stack([np.pad(edges, (0, 256 - len(edges)), mode="edge"), np.linspace(0.1, 0.9, 256)])
    made.model.fitted("steps")["knots"].copy_(torch.tensor(knots))
    raw_B = scoring.predict_examples(made.model, data) + 3e-7
    fitted = made.model.fitted("steps")
    found = answer_tensors(data.task, raw_B, fitted, clamped=True) | {"prediction": raw_B}
    exact = answers(made, data, clamped=True)
    assert (found["probabilities"] - exact["probabilities"]).abs().max() > 1e-4
    assert check(made, data, found) < 1e-6


def test_labels_that_do_not_follow_are_refused_and_missing_ones_are_not(whole: Predictor):
    data = whole.read("sets", TEXTS)
    exact = with_raw(whole, data)
    with pytest.raises(Differs, match=r"task sets: [\d.]+% of the labels that the exported model chooses are others"):
        check(whole, data, exact | {"labels": 1 - exact["labels"]})
    assert check(whole, data, {key: exact[key] for key in ("probabilities", "prediction")}) == 0.0
    with pytest.raises(Differs, match="task sets: the exported model gives no probabilities"):
        check(whole, data, {key: exact[key] for key in ("labels", "prediction")})


def test_wrong_shapes_and_numbers_that_are_not_finite_are_refused(whole: Predictor):
    data = whole.read("classes", TEXTS)
    exact = with_raw(whole, data)
    with pytest.raises(Differs, match=r"probabilities must have the shape \[7, 3\], found \[6, 3\]"):
        check(whole, data, exact | {"probabilities": exact["probabilities"][:6]})
    broken = exact["probabilities"].clone()
    broken[2, 1] = torch.nan
    with pytest.raises(Differs, match=r"id '?2'?: .* answers probabilities .*nan"):
        check(whole, data, exact | {"probabilities": broken})


def test_words_without_a_token_have_no_number_on_both_sides(whole: Predictor):
    data = whole.read("entities", TEXTS)
    exact = answers(whole, data, clamped=False)
    assert exact["probabilities"].isnan().any()
    filled = exact["probabilities"].nan_to_num(nan=0.2)
    with pytest.raises(Differs, match=r"task entities, id '?3'?: "):
        check(whole, data, exact | {"probabilities": filled})


def test_rows_are_taken_at_equal_distances(whole: Predictor):
    data = whole.read("classes", [f"good {'a ' * i}" for i in range(10)])
    assert [one.id for one in some_rows(data, 4).examples] == ["0", "3", "6", "9"]
    assert some_rows(data, 4).rows.tolist() == [0, 3, 6, 9]
    assert some_rows(data, 10) is data


def labelled(made: Predictor, name: str, labels: list[float]) -> Dataset:
    return made.dataset(
        name, Examples.of(Example(str(i), (text,), y) for i, (text, y) in enumerate(zip(TEXTS, labels, strict=True)))
    )


def test_a_lower_score_is_refused_beyond_the_tolerance_and_both_are_reported(whole: Predictor):
    plain = whole.read("classes", TEXTS)
    raw = scoring.predict_examples(whole.model, plain)
    data = labelled(whole, "classes", raw.argmax(-1).double().tolist())  # accuracy is 1
    worse = raw.clone()
    worse[0] = -worse[0]  # another answer to one of seven
    found = compare_scores(whole.model, data, "accuracy", lambda _: following(whole, data, worse), 0.15)
    assert found.scores == pytest.approx((1.0, 6 / 7))
    assert (found.answers, found.metric) == (7, "accuracy")
    assert found.largest == pytest.approx(float((raw[0].softmax(0) - worse[0].softmax(0)).abs().max()), rel=1e-4)
    with pytest.raises(
        Differs, match=r"loses 0.1429 of accuracy, which falls from 1.0000 to 0.8571 on 7 rows; at most 0.1 "
    ):
        compare_scores(whole.model, data, "accuracy", lambda _: following(whole, data, worse), 0.1)
    better = compare_scores(
        whole.model, labelled(whole, "classes", [0.0] * 7), "accuracy", lambda _: following(whole, plain, raw), 0.0
    )
    assert better.scores is not None
    assert better.scores[0] == better.scores[1]


def test_rounded_answers_must_follow_from_raw_predictions(whole: Predictor):
    data = labelled(whole, "platt", [0.0, 1.0] * 3 + [1.0])
    found = following(whole, data, scoring.predict_examples(whole.model, data))
    wrong = found | {"probabilities": found["probabilities"] + 0.02}
    with pytest.raises(Differs, match=r"task platt, .* answers probabilities"):
        compare_scores(whole.model, data, "accuracy", lambda _: wrong, 1.0)


def test_a_small_difference_that_platt_scaling_magnifies_is_refused():
    made = toy_exports.predictor("bert", ["platt"])
    made.model.fitted("platt")["scale"].fill_(20.0)
    data = made.read("platt", TEXTS)
    made.model.fitted("platt")["bias"].copy_(-20.0 * scoring.predict_examples(made.model, data)[0])
    raw = scoring.predict_examples(made.model, data)
    assert check(made, data, following(made, data, raw + 1e-5)) == pytest.approx(5e-5, rel=0.1)
    with pytest.raises(Differs, match=r"task platt, id '?0'?: .* They differ by 4\.\de-04, at most 0\.0001 is"):
        check(made, data, following(made, data, raw + 9e-5))


# Vectors -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pairs() -> Predictor:
    return toy_exports.predictor("bert", ["two", "near", "search"])


def of_pairs(made: Predictor, name: str) -> tuple[Dataset, dict[str, Tensor]]:
    """Returns rows with a number for each as its label, and exact answers to them with the vectors."""
    data = made.read(name, toy_exports.rows_of(made.tasks[name]))
    vectors = torch.stack(scoring.pooled_vectors(made.model, data), 1)
    return data, with_raw(made, data) | {"vectors": vectors, "single_vectors": vectors}


@pytest.mark.parametrize("name", ["two", "near", "search"])
@pytest.mark.parametrize("kind", ["vectors", "single_vectors"])
def test_vectors_are_compared_as_shares_of_their_length(name: str, kind: str, pairs: Predictor):
    data, exact = of_pairs(pairs, name)
    assert check(pairs, data, exact) == 0.0

    def moved(by: float) -> dict[str, Tensor]:
        changed = exact[kind].clone()
        changed[2, -1, 0] += by * changed[2, -1].norm()
        return exact | {kind: changed}

    assert check(pairs, data, moved(5e-5)) == pytest.approx(5e-5, rel=0.01)
    with pytest.raises(Differs, match=rf"task {name}, id '?2'?: .* answers {kind} .* They differ by 2\.0e-04"):
        check(pairs, data, moved(2e-4))
    with pytest.raises(Differs, match=rf"{kind} must have the shape \[7, {4 if name == 'search' else 2}, 8\], found"):
        check(pairs, data, exact | {kind: exact[kind][:, :1]})


def test_rounded_vectors_of_single_texts_are_scored_by_the_head(pairs: Predictor):
    _, exact = of_pairs(pairs, "near")
    rows = toy_exports.rows_of(pairs.tasks["near"])
    labels = exact["score"].tolist()
    data = pairs.dataset("near", Examples.of(Example(str(i), rows[i], labels[i]) for i in range(7)))
    same = compare_scores(pairs.model, data, "pearson", lambda _: exact, 0.0)
    assert same.scores == pytest.approx((1.0, 1.0), abs=1e-5)
    turned = exact | {"single_vectors": exact["single_vectors"].roll(1, 0)}
    with pytest.raises(Differs, match=r"task near: int8 loses [\d.]+ of pearson, which falls from 1\.0000 to"):
        compare_scores(pairs.model, data, "pearson", lambda _: turned, 0.1)
