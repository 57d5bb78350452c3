"""What every registered loss promises, whatever it computes."""

import math

import pytest
import torch

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking.losses import ALIASES, LOSSES, loss, loss_options, requirements_of
from lorank.ranking.losses.lambdaloss import WEIGHTINGS
from lorank.ranking.losses.softmax import TARGETS

VARIANTS = [
    *[("lambda", {"weighting": weighting}) for weighting in WEIGHTINGS],
    *[("lambda", {"weighting": weighting, "k": 2, "sigma": 2.0}) for weighting in WEIGHTINGS],
    ("lambda", {"gain": "linear"}),
    *[("softmax", {"target": target, "temperature": 0.5}) for target in TARGETS],
    ("ranknet", {"sigma": 0.5}),
    ("bce", {"threshold": 2.0}),
    ("hinge", {"margin": 0.5}),
    ("dpo", {"label_smoothing": 0.2}),
    ("adr-mse", {"temperature": 0.4}),
    *[("yetirank", {"measure": measure, "samples": 3}) for measure in ("mrr", "map", "err")],
    ("groco", {"network": "odd-even", "steepness": 1.0}),
    ("rcr", {"target": "labels", "alpha": 0.3}),
    ("ordinal", {"thresholds": (-1.0, 0.5)}),
    ("kl", {"temperature": 2.0}),
    ("neuralndcg", {"transposed": True, "k": 2, "temperature": 0.5}),
    ("approxndcg", {"temperature": 0.3, "k": 2}),
    ("listmle", {"last_grade": False}),
]
PLAIN = sorted(name for name in LOSSES if not requirements_of(LOSSES[name]))
"""Losses of scores, labels, mask and weights alone; those that want more have a contract of their own."""
EVERY = [*[(name, {}) for name in PLAIN], *VARIANTS]
every_loss = pytest.mark.parametrize(("name", "options"), EVERY, ids=lambda part: str(part))

GARBAGE = (math.nan, math.inf, -math.inf, 1e30)


def batch(lists=4, size=6, dtype=torch.float64, seed=0, grades=4):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(lists, size, generator=generator, dtype=dtype)
    labels = torch.randint(grades, (lists, size), generator=generator).to(dtype)
    labels[:, 0], labels[:, 1] = grades - 1, 0
    mask = torch.rand(lists, size, generator=generator) < 0.8
    mask[:, :2] = True
    return scores, labels, mask


def value_and_gradient(function, scores, *rest):
    scores = scores.clone().requires_grad_()
    value = function(scores, *rest)
    value.backward()
    return value.detach(), scores.grad


@every_loss
def test_gradient_is_the_derivative(name, options):
    scores, labels, mask = batch()
    weights = torch.rand(scores.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    function = loss(name, **options)
    for given in (None, weights[:, 0], weights):
        assert torch.autograd.gradcheck(lambda s, w=given: function(s, labels, mask, w), scores.requires_grad_())


@every_loss
def test_descending_the_gradient_lowers_the_loss(name, options):
    scores, labels, mask = batch()
    function = loss(name, **options)
    value, gradient = value_and_gradient(function, scores, labels, mask)
    assert gradient.abs().sum() > 0
    assert function(scores - 1e-4 * gradient, labels, mask) < value


@every_loss
@pytest.mark.parametrize("tied", [False, True], ids=["distinct", "tied scores"])
def test_permuting_a_list_permutes_its_gradient(name, options, tied):
    scores, labels, mask = batch(size=9)
    scores = scores.round() if tied else scores
    weights = torch.rand(scores.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    function = loss(name, **options)
    value, gradient = value_and_gradient(function, scores, labels, mask, weights)
    shuffled = [tensor[:, order] for tensor in (scores, labels, mask, weights)]
    shuffled_value, shuffled_gradient = value_and_gradient(function, *shuffled)
    torch.testing.assert_close(shuffled_value, value)
    torch.testing.assert_close(shuffled_gradient, gradient[:, order])


@every_loss
def test_permuting_the_lists_of_a_batch_permutes_the_gradient(name, options):
    scores, labels, mask = batch()
    function = loss(name, **options)
    value, gradient = value_and_gradient(function, scores, labels, mask)
    flipped_value, flipped_gradient = value_and_gradient(function, scores.flip(0), labels.flip(0), mask.flip(0))
    torch.testing.assert_close(flipped_value, value)
    torch.testing.assert_close(flipped_gradient.flip(0), gradient)


@every_loss
@pytest.mark.parametrize("garbage", GARBAGE)
def test_masked_places_have_no_influence_whatever_they_hold(name, options, garbage):
    scores, labels, mask = batch()
    function = loss(name, **options)
    value, gradient = value_and_gradient(function, scores, labels, mask)
    dirty_scores, dirty_labels = scores.masked_fill(~mask, garbage), labels.masked_fill(~mask, garbage)
    weights = torch.ones_like(scores).masked_fill(~mask, garbage)
    dirty_value, dirty_gradient = value_and_gradient(function, dirty_scores, dirty_labels, mask, weights)
    torch.testing.assert_close(dirty_value, value)
    torch.testing.assert_close(dirty_gradient, gradient)
    assert (dirty_gradient[~mask] == 0).all()


@every_loss
def test_padding_a_batch_changes_nothing(name, options):
    scores, labels, mask = batch()
    function = loss(name, **options)
    value, gradient = value_and_gradient(function, scores, labels, mask)
    wider = [torch.nn.functional.pad(tensor, (0, 3)) for tensor in (scores, labels, mask)]
    padded_value, padded_gradient = value_and_gradient(function, *wider)
    torch.testing.assert_close(padded_value, value)
    torch.testing.assert_close(padded_gradient[:, :6], gradient)


@every_loss
def test_a_masked_document_is_as_good_as_absent(name, options):
    scores, labels, _ = batch(lists=1)
    mask = torch.tensor([[True, True, False, True, False, True]])
    function = loss(name, **options)
    value, gradient = value_and_gradient(function, scores, labels, mask)
    alone, alone_gradient = value_and_gradient(function, scores[mask][None], labels[mask][None])
    torch.testing.assert_close(alone, value)
    torch.testing.assert_close(alone_gradient[0], gradient[mask])


@every_loss
def test_lists_without_two_labels_give_zero_and_are_not_counted(name, options):
    scores, labels, mask = batch()
    function = loss(name, **options)
    value, gradient = value_and_gradient(function, scores, labels, mask)
    silent_labels = torch.stack([torch.zeros(6), torch.full((6,), 3.0), torch.arange(6.0), torch.arange(6.0)])
    silent_mask = torch.ones(4, 6, dtype=torch.bool)
    silent_mask[2] = False
    silent_mask[3, 1:] = False
    silent = torch.randn(4, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    alone, alone_gradient = value_and_gradient(function, silent, silent_labels.double(), silent_mask)
    assert alone == 0
    assert (alone_gradient == 0).all()
    both, both_gradient = value_and_gradient(
        function, torch.cat([scores, silent]), torch.cat([labels, silent_labels]), torch.cat([mask, silent_mask])
    )
    torch.testing.assert_close(both, value)
    torch.testing.assert_close(both_gradient[:4], gradient)
    assert (both_gradient[4:] == 0).all()


@every_loss
@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0), (2, 1)])
def test_empty_batches_give_zero(name, options, shape):
    value, gradient = value_and_gradient(
        loss(name, **options), torch.zeros(shape), torch.zeros(shape), torch.ones(shape, dtype=torch.bool)
    )
    assert value == 0
    assert gradient.shape == shape


@every_loss
@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e4, 1e15])
def test_tiny_and_huge_scores_stay_finite(name, options, scale):
    scores, labels, mask = batch(dtype=torch.float32)
    for sign in (1, -1):
        value, gradient = value_and_gradient(loss(name, **options), sign * scale * scores, labels, mask)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(name, options, dtype):
    scores, labels, mask = batch(dtype=torch.float32, size=40)
    function = loss(name, **options)
    rounded = scores.to(dtype)
    value, gradient = value_and_gradient(function, rounded, labels.to(dtype), mask)
    exact, exact_gradient = value_and_gradient(function, rounded.float(), labels, mask)
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    assert value == exact
    torch.testing.assert_close(gradient, exact_gradient.to(dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert value_and_gradient(function, rounded, labels, mask)[0] == exact


@every_loss
def test_weights_scale_lists_and_documents(name, options):
    scores, labels, mask = batch()
    function = loss(name, **options)
    each = torch.stack([function(scores[i : i + 1], labels[i : i + 1], mask[i : i + 1]) for i in range(4)])
    weights = torch.tensor([0.0, 0.5, 1.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(function(scores, labels, mask), each.mean())
    torch.testing.assert_close(function(scores, labels, mask, weights), (weights * each).mean())
    spread = weights[:, None].expand(4, 6)
    torch.testing.assert_close(function(scores, labels, mask, spread), (weights * each).mean())
    first, second = torch.rand(2, 4, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    torch.testing.assert_close(
        function(scores, labels, mask, first) + function(scores, labels, mask, second),
        function(scores, labels, mask, first + second),
    )


@every_loss
def test_integer_labels_and_absent_mask_are_understood(name, options):
    scores, labels, _ = batch()
    function = loss(name, **options)
    torch.testing.assert_close(function(scores, labels.long()), function(scores, labels, labels >= 0))


@every_loss
def test_inputs_are_left_as_they_were(name, options):
    scores, labels, mask = batch()
    for given in (mask, torch.ones_like(mask)):  # where nothing is masked, nothing needs to be copied
        copies = [tensor.clone() for tensor in (scores, labels, given)]
        loss(name, **options)(scores.requires_grad_(), labels, given, torch.ones_like(scores)).backward()
        assert all(torch.equal(a, b) for a, b in zip(copies, (scores, labels, given)))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_loss_is_catalogued_and_documented(name):
    module = LOSSES[name].__module__
    if name != "e2rank":  # the catalogue has the strategy that it trains for
        assert METHODS[name].location == f"{module}:{LOSSES[name].__name__}"
    assert ">>>" in LOSSES[name].__doc__
    assert "Paper:" in __import__(module, fromlist=["_"]).__doc__
    assert all(option in LOSSES[name].__doc__ for option in loss_options(name))


def test_aliases_name_the_same_loss():
    scores, labels, mask = batch()
    for alias, name in ALIASES.items():
        given = {"noise_seed": torch.tensor(0)} if "noise_seed" in requirements_of(LOSSES[name]) else {}
        assert loss(alias)(scores, labels, mask, **given) == loss(name)(scores, labels, mask, **given)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sofmax", {}, "did you mean 'softmax'"),
        ("ranknet", {"sigmoid": 1.0}, "did you mean 'sigma'"),
        ("bce", {"temperature": 1.0}, "unknown option of loss 'bce'"),
        ("ranknet", {"sigma": 0.0}, "sigma must be above 0"),
        ("lambda", {"weighting": "ndcg3"}, "did you mean 'ndcg"),
        ("lambda", {"k": 0}, "k must be above 0"),
        ("lambda", {"gain": "exp"}, "unknown gain 'exp'"),
        ("softmax", {"target": "label"}, "did you mean 'labels'"),
    ],
)
def test_wrong_names_and_values_are_refused_at_once(name, options, message):
    with pytest.raises(UsageError, match=message):
        loss(name, **options)


@pytest.mark.parametrize("name", PLAIN)
def test_shapes_that_do_not_fit_are_refused(name):
    scores, labels, mask = batch()
    for bad in [
        (scores, labels[:, :3], mask),
        (scores[0], labels[0], mask[0]),
        (scores, labels, mask.float()),
        (scores, labels, mask, torch.ones(3)),
        (scores.long(), labels, mask),
    ]:
        with pytest.raises(UsageError):
            LOSSES[name](*bad)
