"""What every click model promises: probabilities that sum to 1, its own data recovered, bad options refused."""

from itertools import product

import numpy as np
import pytest

from lorank.errors import UsageError
from lorank.ranking.clicks import CLICK_MODELS, SessionBuilder, Simulator, find_click_model, sessions_of

every_model = pytest.mark.parametrize("name", sorted(CLICK_MODELS))
ATTRACTION = np.array([0.7, 0.4, 0.2])


def simulated(name, sessions=30_000, seed=0, shuffle="all"):
    rng = np.random.default_rng(seed)
    lists = {f"q{i}": [f"d{j}" for j in range(6)] for i in range(30)}
    attraction = {query: rng.beta(1.5, 2, 6) for query in lists}
    simulator = Simulator(lists, attraction, name, 6, shuffle)
    builder = SessionBuilder()
    for each in simulator.draw(sessions, rng):
        builder.add(each.query, each.documents, each.clicks)
    return builder.build(), attraction, simulator.clicks


def all_outcomes():
    return sessions_of([("q", ["a", "b", "c"], clicks) for clicks in product([0, 1], repeat=3)])


@every_model
def test_the_probabilities_of_all_outcomes_sum_to_one(name):
    model = find_click_model(name).of_relevance(ATTRACTION, 3)
    model.names = all_outcomes().names
    assert np.exp(model.log_likelihood(all_outcomes())).sum() == pytest.approx(1)


@every_model
def test_marginals_are_sums_over_all_outcomes(name):
    model, log = find_click_model(name).of_relevance(ATTRACTION, 3), all_outcomes()
    model.names = log.names
    chance = np.exp(model.log_likelihood(log))
    assert model.marginal(log)[0] == pytest.approx((chance[:, None] * log.clicks).sum(0))


@every_model
def test_simulated_clicks_have_the_marginals(name):
    model = find_click_model(name).of_relevance(ATTRACTION, 3)
    model.names = all_outcomes().names
    clicks = model.simulate(np.tile(np.arange(3), (40_000, 1)), np.random.default_rng(1))
    assert clicks.mean(0) == pytest.approx(model.marginal(all_outcomes())[0], abs=0.015)


@every_model
def test_em_never_lowers_the_likelihood(name):
    log, _, _ = simulated(name, 2000)
    model = find_click_model(name)(smoothing=0.0)
    model.fit(log, iterations=15)
    assert np.diff(model.history).min() > -1e-9


@every_model
@pytest.mark.parametrize("seed", [0, 1])
def test_its_own_data_is_recovered(name, seed):
    log, attraction, true = simulated(name, seed=seed)
    train, held_out = log.split(0.2, seed)
    model = find_click_model(name)().fit(train, iterations=60)
    wanted = np.array([attraction[q][int(d[1:])] for q, d in log.names])
    assert np.corrcoef(wanted, model.attraction[:-1])[0, 1] > 0.9
    assert model.predict_rates(held_out) == pytest.approx(held_out.click_rates(), abs=0.03)
    own = {(q, f"d{j}"): 6 * int(q[1:]) + j for q in attraction for j in range(6)}
    true.names = sorted(own, key=own.__getitem__)
    assert model.perplexity(held_out).overall < 1.02 * true.perplexity(held_out).overall


@every_model
def test_a_shorter_list_and_a_pair_never_seen_have_a_probability(name):
    log, _, _ = simulated(name, 500)
    model = find_click_model(name)().fit(log, iterations=5)
    other = sessions_of([("q0", ["d0", "new"], [0, 1]), ("other", ["d0"], [0])])
    assert np.isfinite(model.log_likelihood(other)).all()
    assert model.perplexity(other).overall >= 1


@every_model
def test_bad_options_are_named(name):
    with pytest.raises(UsageError, match="has no option 'wrong'"):
        find_click_model(name).of_relevance(ATTRACTION, 3, wrong=1)
    with pytest.raises(UsageError, match="smoothing"):
        find_click_model(name)(smoothing=-1)
    with pytest.raises(UsageError, match="iterations"):
        find_click_model(name)().fit(all_outcomes(), iterations=0)


def test_an_unknown_model_is_met_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'pbm'"):
        find_click_model("pmb")
