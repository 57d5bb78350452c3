"""What every loss promises that requires more than lists: it says so, is checked at once, and carries its memory."""

import math

import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.losses import EXTRAS, LOSSES, loss, loss_options, requirements_of

WANTING = sorted(name for name in LOSSES if requirements_of(LOSSES[name]))
REMEMBERING = [name for name in WANTING if hasattr(LOSSES[name], "state_dict")]
ESTIMATED = {"beer", "neural-pg-rank"}
"""Losses whose gradient is an estimate: that of an expectation, which their own tests enumerate."""
every_wanting = pytest.mark.parametrize("name", WANTING)


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores, first, reference = torch.randn(3, 4, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (4, 6), generator=generator).double()
    labels[:, 0], labels[:, 1] = 2, 0
    mask = torch.ones(4, 6, dtype=torch.bool)
    mask[1, 4:] = mask[3, 2:] = False
    lists = torch.tensor([5, 2, 9, 4])
    extras = {
        "items": (lists << 32).unsqueeze(1) + torch.arange(6),
        "lists": lists,
        "outside": torch.tensor([False] * 4),
        "users": torch.tensor([0, 1, 1, 0]),
        "epoch": torch.tensor(1.0),
        "first_stage": first,
        "reference": reference,
        "slow": first - reference,
        "noise_seed": torch.tensor(3),
        "listwise": mask & torch.tensor([[False], [True], [False], [True]]),
        "opponent": first + reference,
        "draws": torch.tensor([0.0, 2.0, 0.0, 1.0, 3.0, 1.0]).expand(4, 6),
        "representations": torch.randn(4, 6, 3, generator=generator, dtype=torch.float64),
        "head": torch.ones(3, dtype=torch.float64),
    }
    return scores, labels, mask, extras


def wanted(name, extras):
    return {want: extras[want] for want in requirements_of(LOSSES[name])}


def test_there_are_such_losses_and_they_want_what_the_loop_gives():
    assert {"answer-rerank-curriculum", "confidence-ranking-ctr", "data-diet", "elr", "finest"} <= set(WANTING)
    assert all(requirements_of(LOSSES[name]) <= EXTRAS.keys() for name in WANTING)
    assert all(requirements_of(loss(name)) == requirements_of(LOSSES[name]) for name in WANTING)
    assert not any(set(loss_options(name)) & set(EXTRAS) for name in WANTING)


@every_wanting
def test_masked_places_have_no_influence(name):
    scores, labels, mask, extras = batch()
    given = wanted(name, extras)
    dirty = {k: v.masked_fill(~mask, 77) if v.shape == mask.shape else v for k, v in given.items()}
    dirty = {k: v.masked_fill(~mask.unsqueeze(2), math.nan) if v.dim() == 3 else v for k, v in dirty.items()}
    clean_value = loss(name)(scores, labels, mask, **given)
    value = loss(name)(scores.masked_fill(~mask, math.nan), labels.masked_fill(~mask, 1e9), mask, **dirty)
    torch.testing.assert_close(value, clean_value)


@pytest.mark.parametrize("name", [name for name in WANTING if name not in ESTIMATED])
def test_gradient_is_the_derivative(name):
    scores, labels, mask, extras = batch()

    def value(s):
        return loss(name)(s, labels, mask, **wanted(name, extras))

    if name == "elr":  # its target is the ranker's own belief, held constant
        function = loss(name, decay=0.999999)
        function(scores, labels, mask, **wanted(name, extras))
        held = function.state_dict()

        def value(s):
            function.load_state_dict(held)
            return function(s, labels, mask, **wanted(name, extras))

    assert torch.autograd.gradcheck(value, scores.requires_grad_(), atol=1e-4)


@every_wanting
@pytest.mark.parametrize("shape", [(0, 5), (3, 0)])
def test_empty_batches_give_zero(name, shape):
    empty = {
        "items": torch.zeros(shape, dtype=torch.int64),
        "lists": torch.arange(shape[0]),
        "users": torch.zeros(shape[0], dtype=torch.int64),
        "outside": torch.ones(shape[0], dtype=torch.bool),
        "epoch": torch.tensor(0.0),
        "first_stage": torch.zeros(shape),
        "reference": torch.zeros(shape),
        "slow": torch.zeros(shape),
        "noise_seed": torch.tensor(3),
        "listwise": torch.zeros(shape, dtype=torch.bool),
        "opponent": torch.zeros(shape),
        "draws": torch.ones(shape),
        "representations": torch.zeros(*shape, 3),
        "head": torch.ones(3),
    }
    scores = torch.zeros(shape, requires_grad=True)
    value = loss(name)(scores, torch.zeros(shape), torch.ones(shape, dtype=torch.bool), **wanted(name, empty))
    value.backward()
    assert value == 0


@pytest.mark.parametrize("name", REMEMBERING)
def test_memory_is_tensors_and_another_takes_it_up_to_the_bit(name):
    scores, labels, mask, extras = batch()
    first = loss(name)
    first(scores, labels, mask, **wanted(name, extras | {"epoch": torch.tensor(0.0)}))
    other = loss(name)
    state = first.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    other.load_state_dict(state)
    shuffled = torch.tensor([2, 0, 3, 1])
    again = [tensor[shuffled] for tensor in (scores, labels, mask)]
    given = {k: v[shuffled] if v.dim() else v for k, v in wanted(name, extras).items()}
    assert torch.equal(first(*again, **given), other(*again, **given))
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("finest", {"base": "sofmax"}, "did you mean 'softmax'"),
        ("finest", {"base": "elr"}, "cannot be built on"),
        ("finest", {"lost": 0.8, "wrong": 0.5}, "lost and wrong"),
        ("data-diet", {"fraction": 0.0}, "fraction"),
        ("answer-rerank-curriculum", {"heuristic": "luck"}, "unknown heuristic"),
        ("elr", {"decay": 1.0}, "decay"),
        ("confidence-ranking-ctr", {"strength": -1.0}, "strength"),
        ("elr", {"items": 3}, "unknown option"),
    ],
)
def test_wrong_options_are_refused_at_once(name, options, message):
    with pytest.raises(UsageError, match=message):
        loss(name, **options)


def test_curriculum_is_the_base_loss_weighted_by_its_epoch():
    scores, labels, mask, extras = batch()
    late = extras | {"epoch": torch.tensor(5.0)}
    function = loss("answer-rerank-curriculum", base="ranknet", epochs=5)
    torch.testing.assert_close(
        function(scores, labels, mask, **wanted("answer-rerank-curriculum", late)),
        loss("ranknet")(scores, labels, mask),
    )


def test_finest_perturbs_alike_for_the_same_lists_and_epoch_and_anew_for_another():
    scores, labels, mask, extras = batch()
    given = wanted("finest", extras)
    function = loss("finest", lost=0.5, wrong=0.5, strength=0.0)
    values = {int(e): float(function(scores, labels, mask, **given | {"epoch": torch.tensor(e)})) for e in range(6)}
    assert len(set(values.values())) > 1
    assert float(function(scores, labels, mask, **given | {"epoch": torch.tensor(3)})) == values[3]
    still = loss("finest", lost=0.0, wrong=0.0, strength=0.0)
    torch.testing.assert_close(still(scores, labels, mask, **given), loss("softmax")(scores, labels, mask))


def test_data_diet_trains_on_the_hardest_lists_only():
    scores, labels, mask, extras = batch()
    mask[3] = True
    diet = loss("data-diet", fraction=0.5, epochs=1)
    diet(scores, labels, mask, lists=extras["lists"], epoch=torch.tensor(0))
    from lorank.ranking.losses.data_diet import el2n

    hardest = el2n(scores, labels, mask).argsort(descending=True)[:2].sort().values
    torch.testing.assert_close(
        diet(scores, labels, mask, lists=extras["lists"], epoch=torch.tensor(1)),
        loss("softmax")(scores[hardest], labels[hardest], mask[hardest]),
    )
    assert diet.kept_lists(torch.tensor([1000])).all()
