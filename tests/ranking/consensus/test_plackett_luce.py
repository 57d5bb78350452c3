import choix
import numpy as np
import pytest

from lorank.errors import UsageError
from lorank.ranking.consensus import aggregate, from_rankings
from lorank.ranking.consensus.plackett_luce import plackett_luce


def gumbel_rankings(items, rankings, seed, size=None):
    rng = np.random.default_rng(seed)
    strength = rng.normal(0, 1, items)
    rows = []
    for _ in range(rankings):
        some = rng.permutation(items)[: size or items]
        rows.append(some[np.argsort(-(strength[some] + rng.gumbel(size=len(some))))].tolist())
    return rows, strength


def named(rows):
    return [[f"{item:02d}" for item in row] for row in rows]


@pytest.mark.parametrize(("items", "size"), [(8, None), (12, 4)])
def test_equals_choix_on_whole_and_partial_rankings(items, size):
    rows, _ = gumbel_rankings(items, 120, 0, size)
    ours = plackett_luce(from_rankings(named(rows)), prior=0)
    assert ours == pytest.approx(choix.ilsr_rankings(items, rows, tol=1e-12), abs=1e-7)


def test_duels_are_bradley_terry():
    rows, _ = gumbel_rankings(6, 200, 1, 2)
    for prior in (0.0, 1.0):
        ours = plackett_luce(from_rankings(named(rows)), prior=prior)
        scores = aggregate(from_rankings(named(rows)), "bradley-terry", prior=prior).scores
        assert ours == pytest.approx(list(scores.values()), abs=1e-7)


def test_a_top_k_list_is_choices_from_what_is_left():
    rows, _ = gumbel_rankings(6, 150, 2)
    names = [f"{item:02d}" for item in range(6)]
    profile = from_rankings([row[:2] for row in named(rows)], items=names)
    ours = aggregate(profile, "plackett-luce", missing="last", prior=0).scores
    choices = [(row[0], row[1:]) for row in rows] + [(row[1], row[2:]) for row in rows]
    theirs = choix.ilsr_top1(6, choices, tol=1e-12)
    assert list(ours.values()) == pytest.approx(theirs, abs=1e-7)


def test_ties_above_the_bottom_are_breslows():
    ours = plackett_luce(from_rankings([[["a", "b"], "c"], ["c", "a", "b"], ["b", "a", "c"]]), prior=0)
    pi = np.exp(ours)
    total = pi.sum()
    won = np.array([1 + 1 + 1, 1 + 1, 1])
    offered = np.array(
        [
            2 / total + 1 / total + 1 / (pi[0] + pi[1]) + 1 / total + 1 / (pi[0] + pi[2]),
            2 / total + 1 / total + 1 / (pi[0] + pi[1]) + 1 / total,
            2 / total + 1 / total + 1 / total + 1 / (pi[0] + pi[2]),
        ]
    )
    assert pi * offered == pytest.approx(won, abs=1e-7)


def test_strengths_are_recovered_and_extremes_do_not_cancel():
    rows, strength = gumbel_rankings(10, 3000, 4)
    ours = plackett_luce(from_rankings(named(rows)), prior=0)
    assert ours == pytest.approx(strength - strength.mean(), abs=0.1)
    wide = from_rankings(["abcde", "edcba"], weights=[100, 1])
    assert aggregate(wide, "plackett-luce").order == tuple("abcde")


def test_no_maximum_is_said():
    with pytest.raises(UsageError, match="no maximum likelihood"):
        aggregate(["abc"], "plackett-luce", prior=0)
    assert aggregate(["abc"], "plackett-luce").order == ("a", "b", "c")
