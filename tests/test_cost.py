"""The simulated cost of training in several processes, against calculations by hand."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.cost import Encoder, Machine, pays_from, scaling, simulate

# With these numbers, a token computes for 6 s, a copy of the gradient takes 80 s, an addition 120 s, AdamW 280 s.
ENCODER = Encoder("small", multiplied=1, trained=10, sent=10)
MACHINE = Machine("two", processes=2, flops=1, bandwidth=1, inside=4, network=2, latency=1)


def test_a_process_alone_exchanges_nothing():
    step = simulate(ENCODER, MACHINE, 1, 100)
    assert (step.compute, step.exchange, step.optimizer, step.whole) == (600, 0, 280, 880)


def test_each_round_sends_and_adds_the_whole_gradient():
    assert simulate(ENCODER, MACHINE, 2, 100).compute == 300
    assert simulate(ENCODER, MACHINE, 2, 100).exchange == 80 + (1 + 40 / 4 + 120)


def test_processes_of_a_machine_share_its_network():
    inside, outside = 1 + 40 / 4 + 120, 1 + 40 / (2 / 2) + 120
    assert simulate(ENCODER, MACHINE, 4, 100).exchange == 80 + inside + outside
    assert simulate(ENCODER, MACHINE, 8, 100).exchange == 80 + inside + 2 * outside


def test_two_machines_pay_as_soon_as_they_save_more_than_the_further_round_takes():
    tokens = pays_from(ENCODER, MACHINE)
    assert tokens == pytest.approx((1 + 40 + 120) / 1.5)  # a token computes 3 s on one machine, 1.5 s on two
    one, two = (simulate(ENCODER, MACHINE, n, tokens).whole for n in (2, 4))
    assert one == pytest.approx(two)


def test_the_table_compares_with_one_process():
    rows = [line.split("|") for line in scaling(ENCODER, MACHINE, [1, 2], 100)][2:4]
    assert [cell.strip() for cell in rows[1]][:2] == ["2", "1"]
    assert float(rows[1][6]) == pytest.approx(880 / (300 + 211 + 280), abs=0.01)
    assert float(rows[1][7]) == pytest.approx(2 * 880 / (600 + 211 + 280), abs=0.01)
