"""Prompts hide the chosen attribute of a frozen recommender's users, and nothing else moves."""

import numpy as np
import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.fairness.pfrec import PromptEliminator, PromptSettings, SequenceRecommender, train_prompt


def users_of(seed, users=240, length=6):
    """Items of two halves of the catalogue by one attribute, odd or even by another."""
    rng = np.random.default_rng(seed)
    attributes = rng.integers(0, 2, (users, 2))
    half, parity = attributes[:, :1], attributes[:, 1:]
    items = 2 + 20 * half + 2 * rng.integers(0, 10, (users, length + 1)) + parity
    items = torch.from_numpy(items)
    return items[:, :-1], items[:, -1], torch.from_numpy(attributes)


def guessed(vectors, attribute):
    """Return how well a new linear classifier finds an attribute in the second half of the users."""
    half = len(vectors) // 2
    design = torch.cat([vectors, torch.ones(len(vectors), 1)], 1).double()
    target = attribute.double() * 2 - 1
    gram = design[:half].T @ design[:half] + 1e-2 * torch.eye(design.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, design[:half].T @ target[:half])
    return float(((design[half:] @ weights > 0) == (attribute[half:] == 1)).double().mean())


@pytest.mark.slow
def test_a_prompt_hides_the_chosen_attribute_alone_and_leaves_the_base_as_it_was():
    chosen_after, other_after, before_all = [], [], []
    for seed in range(3):
        torch.manual_seed(seed)
        sequences, following, attributes = users_of(seed)
        model = SequenceRecommender(44, dim=16, layers=1, length=10)
        optimizer = torch.optim.Adam(model.parameters(), 2e-2)
        for _ in range(80):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model.scores(model(sequences)), following).backward()
            optimizer.step()
        model.eval()
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        base = model(sequences).detach()
        prompt = train_prompt(model, sequences, following, attributes, [0], PromptSettings())
        asked = torch.full_like(attributes, -1)
        asked[:, 0] = attributes[:, 0]
        hidden = model(sequences, prompt, asked).detach()
        before_all.append(guessed(base, attributes[:, 0]))
        chosen_after.append(guessed(hidden, attributes[:, 0]))
        other_after.append(guessed(hidden, attributes[:, 1]))
        assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())  # exact: untouched
        assert model(sequences).detach() == pytest.approx(base)  # no prompt is the base
    assert np.mean(before_all) > 0.85
    assert np.mean(chosen_after) < 0.72
    assert np.mean(other_after) > np.mean(chosen_after) + 0.08


def test_a_prompt_leaves_the_base_as_it_was():
    sequences, following, attributes = users_of(0, 40)
    model = SequenceRecommender(44, dim=8, layers=1, length=10)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    base = model(sequences).detach()
    prompt = train_prompt(model, sequences, following, attributes, [1], PromptSettings(steps=3))
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())  # exact: untouched
    assert model(sequences).detach() == pytest.approx(base)
    assert not torch.allclose(model(sequences, prompt, attributes), base)


def test_adapters_of_a_new_prompt_add_nothing():
    prompt = PromptEliminator([2], 8, 2)
    assert all(
        float(adapter(torch.randn(3, 8)).detach().abs().max()) == pytest.approx(0.0) for adapter in prompt.adapters
    )
    model, users = SequenceRecommender(44, 8, 1), users_of(0, 8)
    with pytest.raises(UsageError, match="choose attributes"):
        train_prompt(model, *users, [5], PromptSettings(steps=1))
