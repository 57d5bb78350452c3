"""Whatever people have for labels: a finite value and gradient, or a UsageError that names what is wrong."""

import math

import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.losses import LOSSES, loss, loss_options, requirements_of
from lorank.ranking.losses.core.registry import EXTRAS
from lorank.ranking.losses.lambdaloss import WEIGHTINGS
from lorank.ranking.losses.softmax import TARGETS
from lorank.ranking.losses.yetirank import MEASURES

LABELS = {
    "0/1": [1, 0, 0, 1, 0, 0],
    "grades": [3, 0, 2, 1, 0, 4],
    "one positive": [0, 0, 0, 1, 0, 0],
    "128": [128, 0, 5, 127, 1, 0],
    "255": [255, 254, 5, 0, 1, 0],
    "1e6": [1_000_000, 0, 5, 999_999, 1, 0],
    "1e30": [1e30, 0, 5, 1e29, 1, 0],
    "probabilities": [0.9, 0.05, 0.5, 0.31, 0.0, 1.0],
    "real": [2.75, -0.5, 17.25, 0.0, -3.5, 1.0],
    "negative": [-1, -2, -2, -1, -30, -2],
    "one negative": [0, 0, -2, 0, 0, 0],
    "very negative": [-1e30, 1, 0, 0, 2, 1],
    "tiny": [1e-30, 0, 3e-38, 0, 0, 1e-40],
    "all equal": [3, 3, 3, 3, 3, 3],
    "all zero": [0, 0, 0, 0, 0, 0],
    "all negative and equal": [-2, -2, -2, -2, -2, -2],
    "profits": [1234.5, -980.25, 0.0, 3.75, -0.5, 15.0],
}
VARIANTS = [
    *[("lambda", {"weighting": weighting}) for weighting in WEIGHTINGS],
    ("lambda", {"gain": "linear"}),
    *[("softmax", {"target": target}) for target in TARGETS],
    *[("yetirank", {"measure": measure, "samples": 3}) for measure in MEASURES],
    ("neuralndcg", {"transposed": True}),
    ("rcr", {"target": "labels"}),
]
EVERY = [*[(name, {}) for name in sorted(LOSSES)], *VARIANTS]
SCORES = [(torch.float32, 1.0), (torch.float16, 3e4), (torch.bfloat16, 1.0)]
every_loss = pytest.mark.parametrize(("name", "options"), EVERY, ids=str)


def extras(name, lists, size):
    """What a loss requires, wide enough for the lists."""
    made = {}
    for want in requirements_of(LOSSES[name]):
        example = EXTRAS[want]
        if example.dim() == 0 or want == "head":
            made[want] = example
        elif example.dim() == 3:
            made[want] = torch.linspace(-1, 1, lists * size * example.shape[2]).view(lists, size, -1)
        elif example.dim() == 1:
            made[want] = torch.arange(lists).to(example.dtype)
        else:
            made[want] = torch.linspace(-1, 1, lists * size).view(lists, size).to(example.dtype)
    return made


def value_and_gradient(name, options, scores, labels, mask):
    scores = scores.clone().requires_grad_()
    value = loss(name, **options)(scores, labels, mask, **extras(name, *scores.shape))
    value.backward()
    return value.detach(), scores.grad


def finite_or_refused(name, options, scores, labels, mask):
    """Return what is wrong: neither finite nor refused with a word about labels."""
    try:
        value, gradient = value_and_gradient(name, options, scores, labels, mask)
    except UsageError as error:
        return None if "label" in str(error) else f"refused with {error}"
    if not math.isfinite(value):
        return f"the value {value}"
    return None if torch.isfinite(gradient).all() else f"the gradient {gradient}"


@every_loss
def test_any_labels_give_a_finite_loss_or_are_refused_by_name(name, options):
    noise = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[2, 4:] = False
    wrong = {}
    for kind, each in LABELS.items():
        labels = torch.tensor([each, LABELS["grades"], each[::-1]], dtype=torch.float32)
        for dtype, scale in SCORES:
            scores = (scale * noise).clamp(-6e4, 6e4).masked_fill(~mask, -math.inf).to(dtype)
            wrong[kind, dtype] = finite_or_refused(name, options, scores, labels, mask)
        wrong[kind, "one item"] = finite_or_refused(name, options, noise[:, :1], labels[:, :1], mask[:, :1])
    assert {case: said for case, said in wrong.items() if said} == {}


@every_loss
def test_usual_labels_are_never_refused(name, options):
    scores = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    for kind in ("0/1", "grades", "probabilities", "all equal", "all zero"):
        labels = torch.tensor([LABELS[kind]] * 3, dtype=torch.float32)
        value, _ = value_and_gradient(name, options, scores, labels, torch.ones(3, 6, dtype=torch.bool))
        assert math.isfinite(value), kind


@every_loss
def test_labels_that_are_no_finite_numbers_are_refused(name, options):
    for bad in (math.nan, math.inf, -math.inf):
        labels = torch.tensor([[1.0, bad, 0.0]])
        with pytest.raises(UsageError, match="labels"):
            value_and_gradient(name, options, torch.zeros(1, 3), labels, torch.ones(1, 3, dtype=torch.bool))


@pytest.mark.parametrize("name", [name for name in sorted(LOSSES) if "gain" in loss_options(name)])
def test_a_factor_of_exponential_gains_cancels(name):
    """Grades of 200 and 100 are to a normalised gain what 100 and 0 are, to float precision: no overflow between."""
    scores = torch.randn(1, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mask = torch.ones(1, 3, dtype=torch.bool)
    value, _ = value_and_gradient(name, {}, scores, torch.tensor([[200.0, 100.0, 100.0]]), mask)
    nearly, _ = value_and_gradient(name, {}, scores, torch.tensor([[100.0, 0.0, 0.0]]), mask)
    assert float(value) == pytest.approx(float(nearly), rel=1e-4)
