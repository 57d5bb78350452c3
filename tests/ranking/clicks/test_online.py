"""Gossip, delays and clickbait: what each promises, in small simulations.

Catalogue: g-rank, ucb-s-clickbait, delayed-dual-averaging, rct-reshuffling.
"""

import numpy as np
import pytest

from lorank.errors import UsageError
from lorank.ranking.clicks.online import ClickbaitScreen, DelayedDualAveraging, Peer


def peers(seed=0, count=4):
    rng = np.random.default_rng(seed)
    central, made = Peer("all"), []
    for number in range(count):
        peer = Peer(str(number))
        for _ in range(30):
            documents = list(rng.permutation(list("abcde")))
            clicks = [int(rng.random() < 0.2 * "abcde".index(d)) for d in documents]
            peer.observe("q", documents, clicks)
            central.observe("q", documents, clicks)
        made.append(peer)
    return made, central


def test_gossip_in_any_order_ends_at_the_central_ranking():
    for order in (range(4), reversed(range(4))):
        made, central = peers()
        target = Peer("reader")
        for number in order:
            target.merge(made[number])
            target.merge(made[number])  # again: nothing changes
        assert target.scores()["q"] == pytest.approx(central.scores()["q"])
        assert target.rank("q") == central.rank("q")


def test_merging_is_commutative_and_a_peer_works_alone():
    one, two = peers()[0][:2], peers()[0][:2]
    one[0].merge(one[1])
    two[1].merge(two[0])
    assert one[0].known == two[1].known
    assert set(peers()[0][0].rank("q")) == set("abcde")


def regret(delay, rounds=600, optimistic=False, seed=0):
    rng = np.random.default_rng(seed)
    target = np.array([0.6, -0.3])
    learner, late, total = DelayedDualAveraging(2, optimistic=optimistic), [], 0.0
    for _ in range(rounds):
        number, weights = learner.play()
        total += float(((weights - target) ** 2).sum())
        late.append((number, 2 * (weights - target) + 0.1 * rng.normal(size=2)))
        if len(late) > delay:
            learner.receive(*late.pop(0))
    return total


def test_without_delay_it_is_plain_dual_averaging():
    rng, learner, total, spread = np.random.default_rng(0), DelayedDualAveraging(3), np.zeros(3), 1.0
    for _ in range(50):
        number, weights = learner.play()
        assert weights == pytest.approx(-total / np.sqrt(spread))
        gradient = rng.normal(size=3)
        learner.receive(number, gradient)
        total, spread = total + gradient, spread + float(gradient @ gradient)


def test_regret_grows_slower_than_time_and_with_the_delay():
    assert regret(0, 2400) < 3 * regret(0, 600)
    assert regret(20, 2400) < 3 * regret(20, 600)
    assert regret(0) < regret(40)


def test_a_round_is_received_once():
    learner = DelayedDualAveraging(1)
    number, _ = learner.play()
    learner.receive(number, np.ones(1))
    with pytest.raises(UsageError, match="round 1"):
        learner.receive(number, np.ones(1))
    with pytest.raises(UsageError, match="radius"):
        DelayedDualAveraging(1, radius=0)


@pytest.mark.parametrize("seed", [0, 1])
def test_honest_documents_survive_and_clickbait_goes(seed):
    rng = np.random.default_rng(seed)
    rates, rewards = np.array([0.5, 0.6, 0.95, 0.9]), np.array([0.7, 0.8, 0.45, 0.4])
    screen = ClickbaitScreen(4, rounds=8000)
    for _ in range(8000):
        arm = screen.choose()
        clicked = rng.random() < rates[arm]
        screen.update(arm, clicked, float(rng.random() < rewards[arm]))
    assert screen.eliminated().tolist() == [False, False, True, True]
    assert screen.views[:2].sum() > 0.6 * 8000


def test_all_may_be_out_and_rewards_have_a_range():
    screen = ClickbaitScreen(1, rounds=100)
    for _ in range(100):
        screen.update(0, True, 0.0)
    assert screen.choose() is None
    with pytest.raises(UsageError, match="from 0 to 1"):
        screen.update(0, True, 2.0)
