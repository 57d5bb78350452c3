"""sparta: what a duel moves and what it does not, who loses its say, and which way the data points."""

from collections import Counter

import numpy as np
import pytest

from lorank.errors import UsageError
from lorank.ranking.judges import Oracle
from lorank.ranking.preferences.sparta import Duel, Policy, Reputations, draw_pair, duel, duels

GOOD, BAD = "abcdefghijklm", "nopqrstuvwxyz"


class Writer:
    """Writes letters of its own taste, now and then others, and judges by that taste."""

    def __init__(self, taste, purity=0.8):
        self.taste, self.purity = taste, purity

    def reply(self, prompt, seed):
        draw = np.random.default_rng(seed)
        other = BAD if self.taste == GOOD else GOOD
        return "".join(draw.choice(list(self.taste if draw.random() < self.purity else other)) for _ in range(5))

    def judge(self, prompt, replies):
        return [sum(letter in self.taste for letter in reply) for reply in replies]


def fought(tastes, count=120, seed=0, **options):
    contestants = [Writer(taste) for taste in tastes]
    reputations = Reputations(np.zeros(len(tastes)))
    history = duels(
        contestants,
        [f"prompt {i}" for i in range(count)],
        reputations,
        generator=np.random.default_rng(seed),
        **options,
    )
    return history, reputations


def test_sparta_reputation_conserves_the_total():
    values = [120.0, -40.0, 7.0, 0.0]
    reputations = Reputations(values, rate=40.0)
    draw = np.random.default_rng(0)
    for _ in range(200):
        left, right = draw.choice(4, 2, replace=False)
        reputations.settle(left, right, draw.random())
    assert reputations.values.sum() == pytest.approx(sum(values))
    _, after = fought([GOOD, GOOD, BAD, GOOD])
    assert after.values.sum() == pytest.approx(0.0, abs=1e-9)


def test_an_expected_result_moves_nothing_and_elos_formula_holds():
    reputations = Reputations([400.0, 0.0, 50.0])
    assert reputations.expected_share(0, 1) == pytest.approx(10 / 11)
    reputations.settle(0, 1, 10 / 11)
    np.testing.assert_allclose(reputations.values, [400.0, 0.0, 50.0])
    np.testing.assert_allclose(reputations.weights(1, 2), [1, 0, 0])
    np.testing.assert_allclose(Reputations([400.0, 0.0, 400.0, 1.0]).weights(2, 3), [10 / 11, 1 / 11, 0, 0])


def test_sparta_takes_weight_from_a_biased_judge():
    """One of five likes what the others do not: it writes by that taste, loses by their vote, and counts less."""
    history, reputations = fought([GOOD, GOOD, BAD, GOOD, GOOD])
    assert np.argmin(reputations.values) == 2
    said = [each.weights[2] for each in history if 2 not in each.models]
    assert said[0] == pytest.approx(1 / 3, abs=0.05)
    assert np.mean(said[-20:]) < 0.5 * said[0]


def test_sparta_data_points_where_the_weighted_vote_does():
    history, _ = fought([GOOD, GOOD, BAD, GOOD, BAD], near=2)
    assert any(each.votes[list(set(range(5)) - set(each.models))].std() > 0 for each in history)  # judges disagree
    for each in history:
        judging = [place for place in range(5) if place not in each.models]
        share = sum(each.weights[j] * each.votes[j] for j in judging)
        assert each.share == pytest.approx(share)
        if each.row is not None:
            left_is_better = each.row["chosen"] == each.replies[0]
            assert left_is_better == (share > 0.5)
            assert {each.row["chosen"], each.row["rejected"]} == set(each.replies)


def test_a_heavy_judge_outvotes_two_light_ones():
    contestants = [Writer(GOOD, 1.0), Writer(BAD, 1.0), Writer(BAD), Writer(GOOD), Writer(GOOD)]
    found = duel(contestants, "p", (0, 1), Reputations([0.0, 0.0, 400.0, 0.0, 0.0]), (0, 1))
    assert found.share == pytest.approx(2 / 12)  # odds 10 against 1 + 1
    assert found.row["chosen"] == found.replies[1]
    even = duel(contestants, "p", (0, 1), Reputations(np.zeros(5)), (0, 1))
    assert even.share == pytest.approx(2 / 3)


def test_even_votes_and_equal_or_empty_replies_teach_nothing():
    def row(replies, share):
        return Duel("p", (0, 1), replies, share, np.zeros(3), np.zeros(3)).row

    assert row(("a", "b"), 0.5) is None
    assert row(("a", "a"), 0.9) is None
    assert row(("a", " "), 0.9) is None
    assert row(("a", "b"), 0.4) == {"query": "p", "chosen": "b", "rejected": "a"}


def test_opponents_are_near_in_reputation():
    reputations, generator = Reputations([0.0, 10.0, 300.0, 310.0]), np.random.default_rng(0)
    seen = Counter(frozenset(draw_pair(reputations, generator, near=1)) for _ in range(100))
    assert seen.keys() == {frozenset({0, 1}), frozenset({2, 3})}
    all_pairs = Counter(frozenset(draw_pair(reputations, generator, near=9)) for _ in range(300))
    assert len(all_pairs) == 6


def test_a_policy_asks_its_judge_for_scores():
    policy = Policy(model=None, judging=Oracle([2.0, 0.0]))
    assert list(policy.judge("p", ["good", "bad"])) == pytest.approx([2.0, 0.0])


def test_wrong_use_is_refused():
    for values, options in (([0.0, 0.0], {}), ([0.0] * 3, {"rate": 0.0}), ([0.0] * 3, {"scale": -1.0})):
        with pytest.raises(UsageError, match="three models"):
            Reputations(values, **options)
    with pytest.raises(UsageError, match="one reputation a contestant"):
        duels([Writer(GOOD)] * 3, ["p"], Reputations(np.zeros(4)), generator=np.random.default_rng(0))
