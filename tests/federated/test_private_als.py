"""dp-multitask-skew: without noise it is ALS, epsilon is the accountant's, and rare items gain by the budget."""

import math
import statistics

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import read_run
from lorank.errors import UsageError
from lorank.federated.private_als import PrivateALS, Ratings


def skewed(seed: int, users: int = 1500, items: int = 60, per_user: int = 8) -> tuple[Ratings, Ratings, torch.Tensor]:
    """Ratings of rank 2 whose items are as popular as 1 / place, a held-out part, and the items' numbers of users."""
    rng = np.random.default_rng(seed)
    U, V = rng.normal(size=(users, 2)), rng.normal(size=(items, 2))
    chance = 1 / np.arange(1, items + 1)
    rated = np.stack([rng.choice(items, per_user, replace=False, p=chance / chance.sum()) for _ in range(users)])
    who, what = np.repeat(np.arange(users), per_user), rated.ravel()
    y = np.tanh((U[who] * V[what]).sum(1) + 0.1 * rng.normal(size=len(who)))
    held = rng.random(len(who)) < 0.2
    parts = [Ratings(*(torch.from_numpy(each[mask]) for each in (who, what, y))) for mask in (~held, held)]
    return parts[0], parts[1], torch.bincount(parts[0].items, minlength=items)


def test_without_noise_it_is_alternating_least_squares() -> None:
    ratings, _, _ = skewed(0, users=60, items=15, per_user=5)
    als = PrivateALS(rank=3, rounds=4, ridge=0.7)
    found = als.fit(ratings, torch.Generator().manual_seed(1), (60, 15)).numpy()
    draw = torch.randn(15, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    V, U = draw.numpy() / 3**0.5, np.zeros((60, 3))
    who, what, y = (each.numpy() for each in (ratings.users, ratings.items, ratings.values))
    for _ in range(4):
        for i in range(60):
            X = V[what[who == i]]
            U[i] = np.linalg.solve(X.T @ X + 0.7 * np.eye(3), X.T @ y[who == i])
        for j in range(15):
            X = U[who[what == j]]
            V[j] = np.linalg.solve(X.T @ X + 0.7 * np.eye(3), X.T @ y[what == j])
    np.testing.assert_allclose(found, V, atol=1e-9)


def test_epsilon_is_that_of_two_releases_a_round_and_the_counts() -> None:
    pytest.importorskip("opacus")
    for noise, rounds, delta in ((3.0, 2, 1e-3), (20.0, 10, 1e-5)):
        count = 2 * rounds + 1
        least = min(
            count * a / (2 * noise**2) + math.log1p(-1 / a) - (math.log(delta) + math.log(a)) / (a - 1)
            for a in [1 + x / 10 for x in range(1, 100)] + list(range(12, 64))
        )
        assert PrivateALS(noise=noise, rounds=rounds).epsilon(delta) == pytest.approx(least, rel=1e-6)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_what_one_user_adds_has_norm_one_at_most(power: float) -> None:
    ratings, _, _ = skewed(1)
    als = PrivateALS(noise=2.0, power=power)
    weights = als._weights(ratings, 1500, 60, torch.Generator().manual_seed(0))
    norms = torch.zeros(1500, dtype=torch.float64).index_add(0, ratings.users, weights.square())
    assert norms.max() <= 1 + 1e-9
    V = torch.randn(60, 4, dtype=torch.float64)
    assert als.user_factors(ratings, V, 1500).norm(dim=1).max() <= 1 + 1e-9


def tail_error(power: float, seed: int) -> float:
    """The squared error on held-out ratings of the half of the items with the fewest users."""
    ratings, held, counts = skewed(seed)
    als = PrivateALS(rank=2, rounds=3, noise=3.0, power=power, ridge=3.0)
    V = als.fit(ratings, torch.Generator().manual_seed(seed), (1500, 60))
    U = als.user_factors(ratings, V, 1500)
    rare = counts[held.items] <= counts.median()
    said = (U[held.users] * V[held.items]).sum(1)
    return (said - held.values).square()[rare].mean().item()


def test_the_tail_gains_by_the_budget() -> None:
    gains = [tail_error(0.0, seed) - tail_error(0.5, seed) for seed in range(10)]
    assert statistics.mean(gains) > 2 * statistics.stdev(gains) / len(gains) ** 0.5


def test_recommendations_from_the_command_line(tmp_path) -> None:
    pytest.importorskip("opacus")
    ratings, _, _ = skewed(3, users=80, items=20, per_user=6)
    rows = zip(ratings.users.tolist(), ratings.items.tolist(), ratings.values.tolist(), strict=True)
    path = tmp_path / "ratings.tsv"
    path.write_text("".join(f"u{u}\ti{i}\t{3 + 2 * y:.3f}\n" for u, i, y in rows))
    line = ["federate", "recommend", "--ratings", str(path), "--low", "1", "--high", "5", "--noise", "5"]
    done = CliRunner().invoke(app, [*line, "--out", str(tmp_path / "out.run"), "--top", "5"])
    assert done.exit_code == 0, done.exception
    assert "epsilon" in done.stdout
    run = read_run(tmp_path / "out.run")
    rated = {f"u{u}": set() for u in ratings.users.tolist()}
    for u, i in zip(ratings.users.tolist(), ratings.items.tolist(), strict=True):
        rated[f"u{u}"].add(f"i{i}")
    assert all(len(row) == 5 and not row.keys() & rated[user] for user, row in run.items())
    path.write_text("u1\ti1\t9\n")
    refused = CliRunner().invoke(app, [*line, "--out", str(tmp_path / "x")])
    assert "ratings.tsv:1" in str(refused.exception)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match="rank and rounds"):
        PrivateALS(rank=0)
