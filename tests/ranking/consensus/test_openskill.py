import builtins

import numpy as np
import pytest
from openskill import models
from scipy.stats import kendalltau

from lorank.errors import LorankError, UsageError
from lorank.ranking.consensus import aggregate, from_duels, from_rankings
from lorank.ranking.consensus.ratings import MODELS, rate

OPENSKILL = "openskill"


@pytest.mark.parametrize("model", sorted(MODELS))
def test_every_model_replays_the_packages_matches(model):
    game = getattr(models, MODELS[model])()
    ballots = [["a", "b", "c"], ["c", ["a", "b"]], ["b", "d"]]
    players = {name: game.rating(name=name) for name in "abcd"}
    for names, ranks in ((["a", "b", "c"], [0, 1, 2]), (["c", "a", "b"], [0, 1, 1]), (["b", "d"], [0, 1])):
        after = game.rate([[players[name]] for name in names], ranks=ranks)
        players.update(zip(names, (team[0] for team in after), strict=True))
    ours = rate(from_rankings(ballots), model=model)
    assert ours[:, 0] == pytest.approx([players[name].mu for name in "abcd"])
    assert ours[:, 1] == pytest.approx([players[name].sigma for name in "abcd"])
    scores = aggregate(from_rankings(ballots), OPENSKILL, model=model).scores
    assert list(scores.values()) == pytest.approx([players[name].ordinal() for name in "abcd"])


def test_the_published_example_of_two_players():
    # README of openskill.js and openskill.py: [{mu: 25}] beats [{mu: 25}] gives 27.63 and 22.36, sigma 8.07.
    assert rate(from_duels([("a", "b")])) == pytest.approx(
        np.array([[27.63523138, 8.0655063], [22.36476861, 8.0655063]]), abs=0.01
    )


def test_sigma_shrinks_with_games_and_mu_moves_as_much_up_as_down():
    sigmas = [rate(from_duels([("a", "b")] * games))[0, 1] for games in (1, 5, 20)]
    assert sigmas == sorted(sigmas, reverse=True)
    assert sigmas[0] < 25 / 3
    after = rate(from_duels([("a", "b"), ("b", "c")]))
    first = rate(from_duels([("a", "b")]))
    assert first[:, 0].sum() == pytest.approx(50)
    assert after[0, 0] == pytest.approx(first[0, 0])


def test_planted_skills_are_recovered():
    rng = np.random.default_rng(0)
    skill = np.linspace(-3, 3, 15)
    ballots = [[f"{i:02d}" for i in np.argsort(-(skill + rng.gumbel(size=15)))] for _ in range(60)]
    scores = list(aggregate(from_rankings(ballots), OPENSKILL).scores.values())
    assert kendalltau(scores, skill).statistic > 0.9


def test_what_it_cannot_do_is_said(monkeypatch):
    with pytest.raises(UsageError, match="whole numbers"):
        aggregate(from_rankings(["ab"], [0.5]), OPENSKILL)
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "openskill":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(LorankError, match=r"lorank\[ratings\]"):
        aggregate(["ab"], OPENSKILL)
