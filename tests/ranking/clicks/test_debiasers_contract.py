"""What every debiaser promises: weights of the batch's shape, no influence of padding, a state that is restored."""

import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.clicks import Propensities, sessions_of
from lorank.ranking.clicks.core.debiased_loss import DebiasedLoss
from lorank.ranking.clicks.core.debiaser import ClickBatch, Evidence
from lorank.ranking.clicks.debias import DEBIASERS, debiaser_options, make_debiaser
from lorank.ranking.losses import LOSSES, loss, requirements_of

every_debiaser = pytest.mark.parametrize("name", sorted(DEBIASERS))
PLAIN = sorted(name for name in LOSSES if not requirements_of(LOSSES[name]))


def evidence(positions=5):
    rows = [("q", ["a", "b", "c", "d", "e"], [1, 0, 1, 0, 0]), ("q", ["b", "a", "c", "e", "d"], [0, 1, 0, 0, 1])]
    curve = Propensities(1 / torch.arange(1, positions + 1).numpy(), "given")
    return Evidence(positions, sessions_of(rows * 20), curve)


def made(name):
    debiaser = make_debiaser(name)
    debiaser.prepare(evidence())
    return debiaser


def batch(lists=6, size=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(lists, size, generator=generator)
    labels = (torch.rand(lists, size, generator=generator) < 0.4).float()
    labels[:, 0], labels[:, 1] = 1, 0
    positions = torch.stack([torch.randperm(size, generator=generator) + 1 for _ in range(lists)])
    return ClickBatch(scores, labels, torch.ones(lists, size, dtype=torch.bool), positions)


def learned(name, steps=20):
    debiaser = made(name)
    for step in range(steps):
        debiaser.learn(batch(seed=step), 1.0)
        debiaser.step((step + 1) / (steps + 1))
    return debiaser


def parts(found, like):
    clicked = torch.ones_like(like) if found.clicked is None else found.clicked
    return clicked, torch.zeros_like(like) if found.shift is None else found.shift


@every_debiaser
def test_weights_have_the_shape_of_the_batch_and_are_finite(name):
    given = batch(seed=99)
    for part in parts(learned(name).weigh(given), given.scores):
        assert part.shape == given.scores.shape
        assert torch.isfinite(part).all()
    clicked, shift = parts(learned(name).weigh(given), given.scores)
    assert (clicked > 0).all()
    assert (shift[given.clicked] == 0).all()  # exact: never changed


@every_debiaser
def test_weighing_changes_nothing(name):
    debiaser = learned(name)
    before = {key: value.clone() for key, value in debiaser.state().items()}
    debiaser.weigh(batch(seed=5))
    assert all(torch.equal(before[key], value) for key, value in debiaser.state().items())


@every_debiaser
def test_documents_that_were_not_shown_weigh_one(name):
    given = batch()
    hidden = ClickBatch(given.scores, given.labels, given.mask, torch.zeros_like(given.positions))
    clicked, shift = parts(learned(name).weigh(hidden), given.scores)
    assert torch.equal(clicked, torch.ones_like(clicked))
    assert torch.equal(shift, torch.zeros_like(shift))


@every_debiaser
def test_padding_has_no_influence(name):
    given, results = batch(), []
    for garbage in (0.0, 1e9):
        wide = ClickBatch(
            torch.cat([given.scores, torch.full((6, 2), garbage)], 1),
            torch.cat([given.labels, torch.full((6, 2), garbage)], 1),
            torch.cat([given.mask, torch.zeros(6, 2, dtype=torch.bool)], 1),
            torch.cat([given.positions, torch.tensor([[1, 3]]).expand(6, 2)], 1),
        )
        debiaser = made(name)
        debiaser.learn(wide, 1.0)
        debiaser.step(0.5)
        results.append(parts(debiaser.weigh(wide), wide.scores)[0][:, :5])
    debiaser = made(name)
    debiaser.learn(given, 1.0)
    debiaser.step(0.5)
    assert torch.allclose(results[0], results[1])
    assert torch.allclose(results[0], parts(debiaser.weigh(given), given.scores)[0])


@every_debiaser
def test_a_restored_state_goes_on_to_the_same_bits(name):
    whole = learned(name, 20)
    half, again = made(name), made(name)
    for step in range(20):
        if step == 11:
            again.load_state({key: value.clone() for key, value in half.state().items()})
            half = again
        half.learn(batch(seed=step), 1.0)
        half.step((step + 1) / 21)
    assert all(torch.equal(value, half.state()[key]) for key, value in whole.state().items())


@every_debiaser
def test_halves_of_a_step_add_up_to_it(name):
    one, two = made(name), made(name)
    given = batch(lists=4)
    half = [
        ClickBatch(given.scores[rows], given.labels[rows], given.mask[rows], given.positions[rows])
        for rows in (slice(0, 2), slice(2, 4))
    ]
    one.learn(given, 1.0)
    for part in half:
        two.learn(part, 0.5)
    for debiaser in (one, two):
        debiaser.step(0.5)
    for key, value in one.state().items():
        assert torch.allclose(value, two.state()[key], atol=1e-6)


@every_debiaser
@pytest.mark.parametrize("loss_name", PLAIN)
def test_any_loss_takes_the_weights(name, loss_name):
    given = batch(lists=4)
    debiased = DebiasedLoss(loss(loss_name), frozenset(), learned(name), propensities=False)
    scores = given.scores.clone().requires_grad_()
    value = debiased(scores, given.labels, given.mask, positions=given.positions)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(scores.grad).all()


@every_debiaser
def test_unknown_options_and_bad_values_are_named(name):
    with pytest.raises(UsageError, match="unknown option"):
        make_debiaser(name, wrong=1)
    if "most" in debiaser_options(name):
        with pytest.raises(UsageError, match="most is 0"):
            make_debiaser(name, most=0)


def test_a_slip_is_met_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'dla'"):
        make_debiaser("dal")
