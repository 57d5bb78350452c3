"""neuralndcg: NeuralSort written out as loops, its limit, doubly stochastic sums, allRank's definition."""

import math

import pytest
import torch

from lorank.catalogue import METHODS
from lorank.ranking.losses.core.lists import clean, discounts, normalized_gains, ranks
from lorank.ranking.losses.neuralndcg import neural_ndcg, scales, soft_permutation

both = pytest.mark.parametrize("transposed", [False, True])


def random_batch(lists=3, size=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(lists, size, generator=generator, dtype=torch.float64)
    mask = torch.ones(lists, size, dtype=torch.bool)
    mask[0, 2] = mask[1, 4:] = False
    return scores, torch.randint(4, (lists, size), generator=generator).double(), mask


def neural_sort(s, tau):
    """P of the paper for one list, by loops."""
    n = len(s)
    distance = [sum(abs(a - b) for b in s) for a in s]
    matrix = []
    for i in range(1, n + 1):
        row = [math.exp(((n + 1 - 2 * i) * s[j] - distance[j]) / tau) for j in range(n)]
        matrix.append([value / sum(row) for value in row])
    return matrix


def sinkhorn_by_loops(matrix, iterations):
    """allRank's: divide by column sums, then by row sums."""
    n = len(matrix)
    for _ in range(iterations):
        columns = [sum(matrix[i][j] for i in range(n)) for j in range(n)]
        matrix = [[matrix[i][j] / columns[j] for j in range(n)] for i in range(n)]
        matrix = [[value / sum(row) for value in row] for row in matrix]
    return matrix


def test_soft_permutation_by_loops_and_its_masked_places():
    scores, labels, mask = random_batch()
    permutation = soft_permutation(clean(scores, labels, mask), 0.8)
    for b in range(3):
        size = int(mask[b].sum())
        expected = torch.tensor(neural_sort(scores[b, mask[b]].tolist(), 0.8), dtype=torch.float64)
        torch.testing.assert_close(permutation[b][:size][:, mask[b]], expected)
        assert (permutation[b][size:] == 0).all()
        assert (permutation[b][:, ~mask[b]] == 0).all()


@pytest.mark.parametrize("last", ["rows", "columns"])
def test_rows_sum_to_one_and_scaling_evens_the_columns(last):
    scores, labels, mask = random_batch()
    permutation = soft_permutation(clean(scores, labels, mask), 1.0)
    torch.testing.assert_close(permutation[2].sum(1), torch.ones(7).double())
    turned = permutation if last == "rows" else permutation.transpose(1, 2)
    rows, columns, _ = scales(turned, 100)
    scaled = rows[-1].unsqueeze(2) * turned * columns[-1].unsqueeze(1)
    scaled = scaled if last == "rows" else scaled.transpose(1, 2)
    sizes = mask.sum(1)
    for b in range(3):
        torch.testing.assert_close(scaled[b].sum(1)[: sizes[b]], torch.ones(int(sizes[b])).double())
        torch.testing.assert_close(scaled[b].sum(0)[mask[b]], torch.ones(int(sizes[b])).double())


@pytest.mark.parametrize("k", [None, 3])
def test_by_loops_as_allrank_defines_it(k):
    scores, labels, mask = random_batch()
    expected = 0.0
    for b in range(3):
        y = labels[b, mask[b]].tolist()
        matrix = sinkhorn_by_loops(neural_sort(scores[b, mask[b]].tolist(), 0.8), 20)
        gains = [2**label - 1 for label in y]
        places = range(len(y) if k is None else min(k, len(y)))
        dcg = sum(sum(p * g for p, g in zip(matrix[i], gains)) / math.log2(2 + i) for i in places)
        ideal = sum(g / math.log2(2 + i) for i, g in zip(places, sorted(gains, reverse=True)))
        expected -= dcg / ideal / 3
    assert float(neural_ndcg(scores, labels, mask, temperature=0.8, k=k)) == pytest.approx(expected)


@both
@pytest.mark.parametrize("k", [None, 3])
@pytest.mark.parametrize("gain", ["linear", "exponential"])
def test_cold_neuralndcg_equals_exact_ndcg_to_four_decimals(transposed, k, gain):
    assert METHODS["neuralndcg"].area == "losses.supervised"
    for seed in range(5):
        scores, labels, mask = random_batch(seed=seed)
        lists = clean(scores, labels, mask)
        ndcg = (normalized_gains(lists, gain, k) * discounts(ranks(lists), k)).sum(1).mean()
        cold = neural_ndcg(scores, labels, mask, temperature=1e-5, k=k, gain=gain, transposed=transposed)
        assert float(cold) == pytest.approx(-float(ndcg), abs=1e-4)


def test_the_transposed_form_reads_the_same_permutation_by_columns():
    scores, labels, mask = random_batch()
    plain, transposed = (neural_ndcg(scores, labels, mask, transposed=form, sinkhorn=200) for form in (False, True))
    assert float(plain) == pytest.approx(float(transposed), rel=1e-6)
    assert float(neural_ndcg(scores, labels, mask, sinkhorn=0)) != pytest.approx(float(plain), rel=1e-6)


@both
def test_a_thousand_documents(transposed):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(1, 1000, generator=generator, requires_grad=True)
    labels = torch.randint(5, (1, 1000), generator=generator)
    value = neural_ndcg(scores, labels, transposed=transposed)
    value.backward()
    assert -1 <= value < 0
    assert torch.isfinite(scores.grad).all()
