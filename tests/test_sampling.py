"""The order of rows and tasks: it is complete, and a pure function of the seed and of progress."""

import random

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from mtbert.recipe.train_settings import TrainRecipe
from mtbert.sampling.annealed import Annealed
from mtbert.sampling.round_robin import RoundRobin
from mtbert.sampling.stream import Stream
from mtbert.sampling.temperature import Temperature
from mtbert.sampling.turn import Progress, draw
from mtbert.seeds import numpy_generator


def passes(stream: Stream, number: int) -> list[list[int]]:
    """Returns the first ``number`` passes over the rows, taken from whole batches."""
    batches = -(-number * stream.size // stream.batch_size)
    rows = np.concatenate([stream.rows(i) for i in range(batches)]).tolist()
    return [rows[i * stream.size : (i + 1) * stream.size] for i in range(number)]


@pytest.mark.parametrize(("size", "batch_size"), [(10, 5), (10, 3), (7, 16), (1, 4), (3, 1)])
def test_each_pass_holds_each_row_once_though_batches_cross_its_end(size, batch_size):
    stream = Stream("t", size, batch_size, seed=0)
    assert all(len(stream.rows(i)) == batch_size for i in range(5))
    assert [sorted(rows) for rows in passes(stream, 6)] == [list(range(size))] * 6


def test_a_batch_is_a_function_of_seed_and_number_whatever_was_asked_before():
    expected = [Stream("t", 10, 4, seed=3).rows(i).tolist() for i in range(40)]
    stream = Stream("t", 10, 4, seed=3)
    for i in random.Random(0).sample(range(40), 40):
        assert stream.rows(i).tolist() == expected[i]


def test_passes_tasks_and_seeds_differ():
    first, second = passes(Stream("t", 50, 5, seed=0), 2)
    assert first != second
    assert passes(Stream("u", 50, 5, seed=0), 1) != [first]
    assert passes(Stream("t", 50, 5, seed=1), 1) != [first]
    assert passes(Stream("t", 50, 7, seed=0), 2) == [first, second]


def test_a_stream_leaves_the_global_states():
    numpy_state, torch_state = np.random.get_state()[1].tolist(), torch.get_rng_state()
    Stream("t", 50, 5, seed=0).rows(3)
    draw(RoundRobin()([3, 4], Progress(1, 1, 0, 2)), 0, 0)
    assert np.random.get_state()[1].tolist() == numpy_state
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_the_draws_of_a_purpose_have_known_values():
    # Literals, because a stopped run must draw the same numbers after an upgrade.
    assert numpy_generator(0, "rows", "sst", 0).permutation(8).tolist() == [0, 3, 4, 6, 7, 5, 1, 2]
    assert (
        numpy_generator(0, "a", 1).integers(99, size=4).tolist()
        != numpy_generator(0, "a", "1").integers(99, size=4).tolist()
    )


def test_round_robin_takes_every_task_in_turn():
    turns = [draw(RoundRobin()([5, 500, 50], Progress(1, 1, step, 7)), seed=0, step=step) for step in range(7)]
    assert turns == [0, 1, 2, 0, 1, 2, 0]
    assert RoundRobin()([5, 500, 50], Progress(1, 1, 4, 7)).tolist() == [0.0, 1.0, 0.0]


def test_a_task_is_drawn_as_often_as_its_schedule_says():
    probabilities_T = torch.tensor([0.1, 0.7, 0.2], dtype=torch.float64)
    drawn = [draw(probabilities_T, seed=0, step=step) for step in range(500)]
    assert drawn[7] == draw(probabilities_T, seed=0, step=7)
    np.testing.assert_allclose(np.bincount(drawn) / 500, [0.1, 0.7, 0.2], atol=0.05)


# The paper's sizes: sst, quora, sts.
SIZES = [8544, 283010, 6040]


@pytest.mark.parametrize(
    ("epoch", "expected"), [(1, [0.029, 0.951, 0.020]), (5, [0.088, 0.841, 0.071]), (10, [0.253, 0.510, 0.236])]
)
def test_annealed_probabilities_are_those_of_the_source(epoch, expected):
    found = Annealed()(SIZES, Progress(epoch, 10, 0, 1)).tolist()
    assert found == pytest.approx(expected, abs=0.0006)  # printed with three digits
    assert sum(found) == pytest.approx(1, abs=1e-15)


def test_a_single_annealed_epoch_is_proportional():
    assert (
        Annealed()(SIZES, Progress(1, 1, 0, 1)).tolist()
        == Temperature(temperature=1)(SIZES, Progress(1, 1, 0, 1)).tolist()
    )


def test_samplers_use_the_power_they_name():
    progress = Progress(2, 3, 5, 9)
    assert Temperature(temperature=1)([1, 3], progress).tolist() == [0.25, 0.75]
    assert Temperature(temperature=2)([4, 16], progress).tolist() == pytest.approx([1 / 3, 2 / 3], abs=1e-15)
    assert Temperature(temperature=4)([1, 81], progress).tolist() == pytest.approx([0.25, 0.75], abs=1e-15)
    assert Temperature(temperature=1e6)([1, 81], progress).tolist() == pytest.approx([0.5, 0.5], abs=1e-5)
    assert Temperature(temperature=0.001)([8544, 283010], progress).tolist() == [0.0, 1.0]
    assert Annealed()([1, 1], progress).tolist() == [0.5, 0.5]


def test_batches_without_duplicates_hold_no_cluster_twice_and_stay_a_function_of_seed_and_number():
    clusters = np.array([[0], [0], [1], [1], [2], [3], [4], [5], [6], [7], [8]])
    stream = Stream("t", 11, 4, seed=0, clusters=clusters)
    batches = [stream.rows(i).tolist() for i in range(20)]
    assert all(len({int(clusters[row, 0]) for row in rows}) == 4 for rows in batches)
    for i in range(0, 20, 2):  # one pass is two whole batches of different rows
        assert len({*batches[i], *batches[i + 1]}) == 8
    again = Stream("t", 11, 4, seed=0, clusters=clusters)
    for i in random.Random(0).sample(range(20), 20):
        assert again.rows(i).tolist() == batches[i]
    plain = Stream("t", 11, 4, seed=0)
    assert any(len({int(clusters[row, 0]) for row in plain.rows(i)}) < 4 for i in range(20))


@pytest.mark.parametrize(("name", "temperature"), [("proportional", 1.0), ("square_root", 2.0), ("temperature", 2.0)])
def test_two_temperatures_have_names_of_their_own(name: str, temperature: float):
    for given in (name, {"kind": name}):
        sampler = TrainRecipe.model_validate({"mode": "alternate", "sampler": given}).sampler
        assert sampler == Temperature(temperature=temperature)


def test_a_named_temperature_takes_no_temperature():
    with pytest.raises(ValidationError, match="'round_robin', 'temperature', 'annealed'"):
        TrainRecipe.model_validate({"mode": "alternate", "sampler": {"kind": "proportional", "temperature": 3.0}})
