"""Gradients and curvatures for boosters: second differences, and LightGBM and XGBoost that learn from them."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.losses import LOSSES, loss, requirements_of
from lorank.ranking.losses.core.derivatives import CURVATURES, derivatives, lightgbm_objective, xgboost_objective
from lorank.ranking.losses.core.packed import pack_loss
from lorank.ranking.scorers.features.rows import FeatureLists, ndcg

PLAIN = sorted(name for name in LOSSES if not requirements_of(LOSSES[name]))
OFFSETS = torch.tensor([0, 5, 8, 9, 14])


def documents(seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(14, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (14,), generator=generator).double()
    labels[0], labels[1], labels[5], labels[6] = 2, 0, 1, 0
    return scores, labels, torch.rand(14, generator=generator, dtype=torch.float64) + 0.1


@pytest.mark.parametrize("name", PLAIN)
def test_gradients_are_those_of_the_sum_over_lists(name):
    scores, labels, weights = documents()
    counted = sum(len(set(labels[a:b].tolist())) > 1 for a, b in pairwise(OFFSETS))
    leaf = scores.clone().requires_grad_()
    (expected,) = torch.autograd.grad(pack_loss(loss(name))(leaf, labels, OFFSETS, weights), leaf)
    gradient, curvature = derivatives(loss(name), scores, labels, OFFSETS, weights)
    torch.testing.assert_close(gradient, expected * counted)
    assert (curvature > 0).all()
    assert torch.isfinite(curvature).all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.5},
        {"sigma": 2.0},
        {"k": 2},
        {"weighting": "ndcg1"},
        {"target": "softmax"},
        {"keep_equal": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", CURVATURES)
def test_closed_forms_are_the_second_derivative(name, options):
    from lorank.ranking.losses import loss_options

    if not set(options) <= set(loss_options(name)):
        pytest.skip(f"{name} has no such option")
    scores, labels, weights = documents()
    function = loss(name, **options)
    exact = derivatives(function, scores, labels, OFFSETS, weights, hessian="exact")[1]
    probed = derivatives(function, scores, labels, OFFSETS, weights, hessian="probes")[1]
    torch.testing.assert_close(exact, probed, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", PLAIN)
def test_no_step_of_trust_is_longer_than_one(name):
    scores, labels, _ = documents()
    gradient, curvature = derivatives(loss(name), scores, labels, OFFSETS, hessian="trust")
    assert (gradient.abs() <= curvature + 1e-12).all()


def test_a_closed_form_that_is_not_known_is_said():
    scores, labels, _ = documents()
    with pytest.raises(UsageError, match="choose hessian='probes' or 'trust'"):
        derivatives(loss("approxndcg"), scores, labels, OFFSETS, hessian="exact")
    with pytest.raises(UsageError, match="did you mean 'trust'"):
        derivatives(loss("approxndcg"), scores, labels, OFFSETS, hessian="trusty")


@pytest.mark.parametrize("name", ["softmax", "lambda", "approxndcg"])
def test_boosters_learn_an_order(name):
    lightgbm, xgboost = pytest.importorskip("lightgbm"), pytest.importorskip("xgboost")
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 3))
    labels = np.digitize(rows[:, 0], [0.0, 1.0]).astype(float)
    sizes = [10] * 30
    function = loss(name, weighting="lambdarank") if name == "lambda" else loss(name)
    settings = {"objective": lightgbm_objective(function), "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5}
    light = lightgbm.train(settings, lightgbm.Dataset(rows, labels, group=sizes), 10)
    matrix = xgboost.DMatrix(rows, labels)
    matrix.set_group(sizes)
    extreme = xgboost.train({"nthread": 1, "base_score": 0.0}, matrix, 10, obj=xgboost_objective(function))
    lists = FeatureLists(rows, labels, np.arange(0, 301, 10))
    for scores in (light.predict(rows, raw_score=True), extreme.predict(matrix, output_margin=True)):
        assert ndcg(lists, scores).mean() > 0.85


def test_weights_of_lightgbms_data_reach_the_loss():
    lightgbm = pytest.importorskip("lightgbm")
    labels, weights = np.array([1.0, 0.0, 0.0, 1.0]), np.array([2.0, 2.0, 0.0, 0.0])
    data = lightgbm.Dataset(np.zeros((4, 1)), labels, group=[2, 2], weight=weights).construct()
    gradient, _ = lightgbm_objective(loss("bce"))(np.zeros(4), data)
    np.testing.assert_allclose(gradient, [-0.5, 0.5, 0.0, 0.0])
