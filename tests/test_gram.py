"""The Gram matrix of the tasks' gradients, their weighted sum, and their cosines, in literal numbers.

Dimension key: T tasks, P numbers of a gradient.
"""

import pytest
import torch
from torch import Tensor
from toy_gradients import gram_of, random_gradients, seeded

from mtbert.balance.gram import combine, cosines, gram
from mtbert.balance.pcgrad import pcgrad


def test_the_gram_matrix_multiplies_whole_vectors_and_none_counts_as_zero():
    first = [torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([-1.0]), None, torch.tensor(2.0)]
    second = [torch.tensor([[1.0, 0.0], [0.0, 1.0]]), None, torch.tensor([7.0, 1.0]), torch.tensor(3.0)]
    third = [None, torch.tensor([5.0]), None, None]
    found_TT = gram([first, second, third])
    assert found_TT.tolist() == [[35.0, 11.0, -5.0], [11.0, 61.0, 0.0], [-5.0, 0.0, 25.0]]
    assert found_TT.dtype == torch.float64
    assert found_TT.device.type == "cpu"
    assert gram([[None, None], [None, None]]).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_products_of_tensors_are_added_in_float64():
    # 2 ** 24 + 1 is the first whole number that float32 cannot represent.
    gradient = [torch.tensor([4096.0]), torch.tensor([1.0])]
    assert gram([gradient]).tolist() == [[2.0**24 + 1]]


def test_sparse_gradients_are_multiplied_and_added_as_dense_ones():
    def rows(numbers: list[int], values: list[float]) -> Tensor:
        return torch.sparse_coo_tensor([numbers], [[v, -v] for v in values], (5, 2), check_invariants=True)

    parts = [[rows([1, 3], [2.0, 1.0])], [rows([3, 4, 3], [4.0, 9.0, 1.0])], [None], [rows([0], [1.0])]]
    expected = [[8.0 + 2.0, 10.0, 0.0, 0.0], [10.0, 50.0 + 162.0, 0.0, 0.0], [0.0] * 4, [0.0, 0.0, 0.0, 2.0]]
    assert gram(parts).tolist() == expected
    (found,) = combine(parts, torch.tensor([1.0, 0.5, 3.0, 2.0], dtype=torch.float64))
    assert found.to_dense()[:, 0].tolist() == [2.0, 2.0, 0.0, 3.5, 4.5]


def test_the_gram_matrix_reads_transposed_gradients_and_changes_none():
    a, b = random_gradients(3, 4), random_gradients(3, 4, seed=1)
    before = a.clone()
    torch.testing.assert_close(gram([[a.T], [b.T]])[0, 1], (a * b).sum(), rtol=1e-12, atol=0)
    combine([[a], [b]], torch.tensor([2.0, 3.0], dtype=torch.float64))
    assert torch.equal(a, before)


def test_the_weighted_sum_is_taken_per_parameter_in_its_own_precision():
    first = [torch.tensor([1.0, 2.0]), None, None, torch.tensor([1.0], dtype=torch.float64)]
    second = [torch.tensor([10.0, 20.0]), torch.tensor([4.0]), None, torch.tensor([8.0], dtype=torch.float64)]
    found = combine([first, second], torch.tensor([2.0, 0.5], dtype=torch.float64))
    assert [None if f is None else f.tolist() for f in found] == [[7.0, 14.0], [2.0], None, [6.0]]
    assert [None if f is None else f.dtype for f in found] == [torch.float32, torch.float32, None, torch.float64]


def test_with_weights_of_1_the_weighted_sum_is_plain_addition_to_the_last_bit():
    gradients = [[g.float()] for g in random_gradients(3, 1000)]
    (found,) = combine(gradients, torch.ones(3, dtype=torch.float64))
    assert found is not None
    assert torch.equal(found, gradients[0][0] + gradients[1][0] + gradients[2][0])


@pytest.mark.parametrize("function", [gram, lambda g: combine(g, torch.ones(2, dtype=torch.float64))])
def test_gradients_with_different_numbers_of_parameters_are_refused(function):
    with pytest.raises(ValueError, match="shorter"):
        function([[torch.ones(1), torch.ones(1)], [torch.ones(1)]])


def test_weights_of_another_number_of_tasks_are_refused():
    with pytest.raises(ValueError, match="longer"):
        combine([[torch.ones(1)], [torch.ones(1)]], torch.ones(3, dtype=torch.float64))


def test_the_weighted_sum_by_the_gram_matrix_is_that_of_flat_vectors():
    shapes = [(3, 2), (4,), (2, 2, 2)]
    gradients = [
        [torch.randn(s, generator=seeded(10 * t + p), dtype=torch.float64) for p, s in enumerate(shapes)]
        for t in range(4)
    ]
    flat_TP = torch.stack([torch.cat([part.flatten() for part in gradient]) for gradient in gradients])
    torch.testing.assert_close(gram(gradients), gram_of(flat_TP), rtol=1e-12, atol=1e-12)
    weights_T = pcgrad(gram(gradients), seeded())
    found = torch.cat([part.flatten() for part in combine(gradients, weights_T) if part is not None])
    torch.testing.assert_close(found, weights_T @ flat_TP, rtol=1e-12, atol=1e-12)


def test_cosines_are_literal_and_0_for_a_zero_gradient():
    grads_TP = torch.tensor([[3.0, 4.0], [-4.0, 3.0], [-6.0, -8.0], [0.0, 0.0], [1e-8, 0.0]], dtype=torch.float64)
    expected = [
        [1.0, 0.0, -1.0, 0.0, 0.6],
        [0.0, 1.0, 0.0, 0.0, -0.8],
        [-1.0, 0.0, 1.0, 0.0, -0.6],
        [0.0, 0.0, 0.0, 0.0, 0.0],
        [0.6, -0.8, -0.6, 0.0, 1.0],
    ]
    found_TT = cosines(gram_of(grads_TP))
    torch.testing.assert_close(found_TT, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)
