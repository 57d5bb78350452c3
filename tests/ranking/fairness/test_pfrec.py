"""Prompts hide the chosen attribute of a frozen recommender's users from a discriminator that is new to them."""

import numpy as np
import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.fairness.pfrec import (
    PromptEliminator,
    PromptSettings,
    SequenceRecommender,
    guess_attribute,
    train_prompt,
)


def users_of(seed, users=240, length=6):
    """Items by two attributes, each of which decides in four of five draws, and by a taste that neither knows."""
    rng = np.random.default_rng(seed)
    attributes, taste = rng.integers(0, 2, (users, 2)), rng.integers(0, 5, users)

    def draw():
        flip = rng.random((users, 2)) < 0.2
        half, parity = (attributes ^ flip).T
        liked = np.where(rng.random(users) < 0.8, taste, rng.integers(0, 5, users))
        return 2 + 20 * half + 4 * liked + 2 * rng.integers(0, 2, users) + parity

    items = torch.from_numpy(np.stack([draw() for _ in range(length + 1)], 1))
    return items[:, :-1], items[:, -1], torch.from_numpy(attributes)


def trained(seed, sequences, following, steps=150, dim=16):
    model = SequenceRecommender(44, dim=dim, layers=1, length=10, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model.scores(model(sequences)), following).backward()
        optimizer.step()
    return model.eval()


def hits(model, users, following):
    """Return how often the next item is among the best five."""
    return float((model.scores(users).topk(5, 1).indices == following[:, None]).any(1).double().mean())


def measure(seed, train=4000, held_out=2000):
    """Return base and prompted vectors of users that neither the recommender nor the prompt saw, and who they are."""
    sequences, following, attributes = users_of(seed, train + held_out)
    model = trained(seed, sequences[:train], following[:train])
    settings = PromptSettings(seed=seed)
    prompt = train_prompt(model, sequences[:train], following[:train], attributes[:train], [0], settings)
    sequences, following, attributes = sequences[train:], following[train:], attributes[train:]
    asked = torch.stack([attributes[:, 0], torch.full_like(attributes[:, 0], -1)], 1)
    with torch.no_grad():
        base, hidden = model(sequences), model(sequences, prompt, asked)
    return base, hidden, attributes, (hits(model, base, following), hits(model, hidden, following))


@pytest.mark.slow
def test_a_new_discriminator_is_at_chance_for_the_chosen_attribute_alone():
    before, after, linear, other, kept = [], [], [], [], []
    for seed in range(3):
        base, hidden, attributes, (whole, left) = measure(seed)
        before.append(guess_attribute(base, attributes[:, 0]).accuracy)
        after.append(guess_attribute(hidden, attributes[:, 0]).accuracy)
        linear.append(guess_attribute(hidden, attributes[:, 0], hidden=0).accuracy)
        other.append(guess_attribute(hidden, attributes[:, 1]).accuracy)
        kept.append(left / whole)
    assert np.mean(before) > 0.72
    assert max(np.mean(after), np.mean(linear)) < 0.55  # chance reaches 0.53 for so many users of one seed
    assert np.mean(other) > np.mean(after) + 0.06
    assert np.mean(kept) > 0.22  # of the hits among five; five items at random would keep less than 0.2


def test_a_prompt_leaves_the_base_as_it_was():
    sequences, following, attributes = users_of(0, 40)
    model = SequenceRecommender(44, dim=8, layers=1, length=10)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    base = model(sequences).detach()
    prompt = train_prompt(model, sequences, following, attributes, [1], PromptSettings(steps=3))
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())  # exact: untouched
    assert model(sequences).detach() == pytest.approx(base)
    assert not torch.allclose(model(sequences, prompt, attributes), base)


def test_two_runs_agree_and_leave_the_callers_generator_alone():
    sequences, following, attributes = users_of(1, 60)
    made = []
    for outer in (3, 4):
        torch.manual_seed(outer)
        before = torch.get_rng_state()
        model = SequenceRecommender(44, dim=8, layers=2, length=10, seed=5)
        prompt = train_prompt(model, sequences, following, attributes, [0], PromptSettings(steps=4, seed=2))
        guessed = guess_attribute(model(sequences, prompt, attributes).detach(), attributes[:, 0], steps=5)
        assert torch.equal(torch.get_rng_state(), before)  # exact: bytes of a generator
        made.append((model.state_dict(), prompt.state_dict(), guessed.accuracy))
    (one, first, accuracy), (other, second, again) = made
    assert all(torch.equal(one[name], other[name]) for name in one)  # exact: the same computation twice
    assert all(torch.equal(first[name], second[name]) for name in first)  # exact: the same computation twice
    assert accuracy == pytest.approx(again)
    third = train_prompt(model, sequences, following, attributes, [0], PromptSettings(steps=4, seed=3))
    assert not all(torch.equal(second[name], value) for name, value in third.state_dict().items())


def test_a_new_discriminator_finds_what_is_there_and_nothing_in_noise():
    rng = torch.Generator().manual_seed(0)
    attribute = torch.randint(2, (2000,), generator=rng)
    noise = torch.randn(2000, 8, generator=rng)
    assert not guess_attribute(noise + attribute[:, None], attribute).at_chance
    nothing = guess_attribute(noise, attribute)
    assert nothing.accuracy == pytest.approx(0.5, abs=0.05)
    assert nothing.chance == pytest.approx((0.5 - 0.031, 0.5 + 0.031), abs=0.03)


def test_adapters_of_a_new_prompt_add_nothing():
    prompt = PromptEliminator([2], 8, 2)
    added = [adapter(torch.randn(3, 8)).detach().abs().max() for pair in prompt.adapters for adapter in pair]
    assert [float(each) for each in added] == pytest.approx([0.0] * 4)
    model, users = SequenceRecommender(44, 8, 1), users_of(0, 8)
    with pytest.raises(UsageError, match="choose attributes"):
        train_prompt(model, *users, [5], PromptSettings(steps=1))


def test_padding_in_front_has_no_influence():
    model = SequenceRecommender(44, dim=8, layers=2, length=10).eval()
    sequences = torch.tensor([[0, 0, 5, 7, 9]])
    other = model(torch.tensor([[0, 0, 5, 7, 9], [1, 2, 5, 7, 9]])).detach()
    assert other[0].tolist() == pytest.approx(model(sequences)[0].tolist(), abs=1e-6)
    assert not torch.allclose(other[0], other[1])
