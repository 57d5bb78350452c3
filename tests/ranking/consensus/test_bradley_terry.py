import itertools

import choix
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank.errors import LorankError, UsageError
from lorank.ranking.consensus import aggregate, from_counts, from_duels, from_rankings
from lorank.ranking.consensus.bradley_terry import fit

NEWMAN_BT = "newman-bt"


def planted_duels(items, duels, seed, spread=1.0):
    rng = np.random.default_rng(seed)
    strength = rng.normal(0, spread, items)
    first = rng.integers(items, size=duels)
    second = (first + rng.integers(1, items, size=duels)) % items
    won = rng.random(duels) < 1 / (1 + np.exp(strength[second] - strength[first]))
    pairs = np.where(won[:, None], np.stack([first, second], 1), np.stack([second, first], 1))
    return [tuple(pair) for pair in pairs.tolist()], strength


def profile_of(duels, items):
    names = [f"{item:04d}" for item in range(items)]
    return from_duels([(names[winner], names[loser]) for winner, loser in duels], items=names)


def zermelo(wins, tolerance):
    """Zermelo's iteration of 1929, one item after another, and how many rounds it takes."""
    pi = np.ones(len(wins))
    met = wins + wins.T
    for rounds in range(1, 100_000):
        before = pi.copy()
        for i in range(len(pi)):
            pi[i] = wins[i].sum() / (met[i] / (pi[i] + pi)).sum()
        pi /= np.exp(np.log(pi).mean())
        if np.abs(pi - before).max() <= tolerance:
            return np.log(pi), rounds
    raise AssertionError


def newman(wins, tolerance):
    """Newman's iteration as published, one item after another."""
    pi = np.ones(len(wins))
    for rounds in range(1, 100_000):
        before = pi.copy()
        for i in range(len(pi)):
            pi[i] = (wins[i] * pi / (pi[i] + pi)).sum() / (wins[:, i] / (pi[i] + pi)).sum()
        pi /= np.exp(np.log(pi).mean())
        if np.abs(pi - before).max() <= tolerance:
            return np.log(pi), rounds
    raise AssertionError


def random_counts(seed, n=6, most=10):
    rng = np.random.default_rng(seed)
    wins = rng.integers(1, most, (n, n)).astype(float)
    np.fill_diagonal(wins, 0)
    return wins


@pytest.mark.parametrize("seed", range(4))
def test_newman_bt_equals_choix(seed):
    duels, _ = planted_duels(15, 600, seed)
    ours = fit(profile_of(duels, 15).pairs(), 15, prior=0)
    assert ours.strengths == pytest.approx(choix.ilsr_pairwise(15, duels, tol=1e-12), abs=1e-8)
    assert ours.strengths == pytest.approx(choix.opt_pairwise(15, duels, alpha=0, tol=1e-12), abs=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_newman_bt_reaches_zermelos_fixed_point_in_fewer_rounds(seed):
    wins = random_counts(seed)
    ours = fit(from_counts("abcdef", wins).pairs(), 6, prior=0, tolerance=1e-13)
    theirs, zermelo_rounds = zermelo(wins, 1e-12)
    published, newman_rounds = newman(wins, 1e-12)
    assert ours.strengths == pytest.approx(theirs, abs=1e-8)
    assert published == pytest.approx(theirs, abs=1e-8)
    assert newman_rounds < zermelo_rounds
    assert ours.iterations < zermelo_rounds


@pytest.mark.parametrize("prior", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("ties", ["half", "davidson"])
def test_the_gradient_of_the_written_out_likelihood_is_zero(prior, ties):
    rng = np.random.default_rng(3)
    wins = random_counts(5)
    draws = np.triu(rng.integers(0, 4, (6, 6)), 1).astype(float)
    found = fit(from_counts("abcdef", wins, draws + draws.T).pairs(), 6, prior=prior, ties=ties, tolerance=1e-12)

    def likelihood(parameters):
        x, nu = parameters[:-1], parameters[-1] if ties == "davidson" else 0.0
        total = (-prior * np.log1p(np.exp(x)) - prior * np.log1p(np.exp(-x))).sum()
        for i in range(6):
            for j in range(6):
                if i == j:
                    continue
                whole = np.exp(x[i]) + np.exp(x[j]) + 2 * nu * np.exp((x[i] + x[j]) / 2)
                won = wins[i, j] + (0 if ties == "davidson" else (draws + draws.T)[i, j] / 2)
                total += won * np.log(np.exp(x[i]) / whole)
                if ties == "davidson" and i < j:
                    total += draws[i, j] * np.log(2 * nu * np.exp((x[i] + x[j]) / 2) / whole)
        return total

    # With a prior the scale is fixed by the player of strength 1; strengths are returned with mean 0.
    shifts = np.linspace(-1, 1, 4001)
    best = max(shifts, key=lambda s: likelihood(np.r_[found.strengths + s, found.nu])) if prior else 0.0
    at = np.r_[found.strengths + best, found.nu]
    step = 1e-5
    for place in range(7 if ties == "davidson" else 6):
        moved = np.zeros(7)
        moved[place] = step
        slope = (likelihood(at + moved) - likelihood(at - moved)) / (2 * step)
        assert slope == pytest.approx(0, abs=2e-3 if prior else 1e-4)


def test_two_items_have_their_log_odds_and_do_not_swing_for_ever():
    found = fit(from_duels([("a", "b")] * 3 + [("b", "a")]).pairs(), 2, prior=0)
    assert found.strengths == pytest.approx([np.log(3) / 2, -np.log(3) / 2])
    even = aggregate([("a", "b"), ("b", "a")], "bradley-terry")
    assert even.tiers == (("a", "b"),)


def test_a_long_chain_settles():
    names = [f"{place:03d}" for place in range(40)]
    chain = from_duels([duel for a, b in itertools.pairwise(names) for duel in ((a, b), (a, b), (b, a))])
    found = fit(chain.pairs(), 40, prior=0)
    assert np.diff(found.strengths) == pytest.approx(np.full(39, -np.log(2)), abs=1e-4)


def test_davidson_recovers_planted_ties_and_strengths():
    rng = np.random.default_rng(0)
    x, nu, n = np.array([1.0, 0.3, -0.3, -1.0]), 0.4, 4
    wins, draws = np.zeros((n, n)), np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1, n):
            weights = np.array([np.exp(x[i]), np.exp(x[j]), 2 * nu * np.exp((x[i] + x[j]) / 2)])
            won, lost, drawn = rng.multinomial(20_000, weights / weights.sum())
            wins[i, j], wins[j, i], draws[i, j], draws[j, i] = won, lost, drawn, drawn
    found = fit(from_counts("abcd", wins, draws).pairs(), n, prior=0, ties="davidson")
    assert found.nu == pytest.approx(nu, abs=0.01)
    assert found.strengths == pytest.approx(x, abs=0.03)


def test_no_maximum_is_said_and_a_prior_mends_it():
    always = from_rankings(["abc", "abc"])
    with pytest.raises(UsageError, match="no maximum likelihood: the items fall into 3 groups"):
        aggregate(always, "bradley-terry", prior=0)
    assert aggregate(always, "bradley-terry", prior=0.01).order == ("a", "b", "c")
    with pytest.raises(UsageError, match="every duel is a tie"):
        aggregate([("a", "b", 0.5)], "bradley-terry", ties="davidson")
    with pytest.raises(LorankError, match="did not settle in 2 iterations"):
        aggregate(from_counts("abcdef", random_counts(0)), NEWMAN_BT, max_iterations=2)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 10))
def test_a_prior_pulls_strengths_together(seed, prior):
    counts = from_counts("abcdef", random_counts(seed))
    spread = [np.ptp(fit(counts.pairs(), 6, prior=p).strengths) for p in (0.0, prior, 2 * prior)]
    assert spread[0] >= spread[1] >= spread[2]
