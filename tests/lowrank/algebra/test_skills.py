"""psec: a library of skills composed by context."""

import pytest
import torch
from torch import nn

from lorank.errors import UsageError
from lorank.lowrank import Factors
from lorank.lowrank.algebra import Context, SkillLibrary, attach_factors, dense_update


def draw(rank, scaling, seed):
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(rank, 6, generator=generator)
    return {"layer": Factors(A, torch.randn(5, rank, generator=generator), scaling)}


def library(*skills):
    made = SkillLibrary()
    for name, skill in skills:
        made.add(name, skill)
    return made


def layer():
    generator = torch.Generator().manual_seed(9)
    model = nn.ModuleDict({"layer": nn.Linear(6, 5)})
    with torch.no_grad():
        model["layer"].weight.copy_(torch.randn(5, 6, generator=generator))
    return model


def test_psec_one_hot_weights_are_the_skill():
    skills = {"a": draw(2, 3.0, 0), "b": draw(1, 0.5, 1)}
    made, model, x = library(*skills.items()), layer(), torch.randn(7, 6)
    for index, (name, skill) in enumerate(skills.items()):
        one_hot = torch.eye(2)[index]
        torch.testing.assert_close(dense_update(made.compose(one_hot)["layer"]), dense_update(skill["layer"]))
        torch.testing.assert_close(dense_update(made.compose({name: 1.0})["layer"]), dense_update(skill["layer"]))
        with made.on(model):
            made.weigh(one_hot)
            composed = model["layer"](x)
        adapter = attach_factors(model, skill)
        torch.testing.assert_close(composed, model["layer"](x))
        adapter.detach()


def test_psec_the_library_grows_and_old_skills_stay_as_they_are():
    first = draw(2, 3.0, 0)
    made = library(("a", first))
    kept = {path: [part.clone() for part in own[:2]] for path, own in first.items()}
    before = dense_update(made.compose([1.0])["layer"])
    made.add("b", draw(3, 1.0, 1))
    torch.testing.assert_close(dense_update(made.compose([1.0, 0.0])["layer"]), before)
    assert all(torch.equal(a, b) for path, parts in kept.items() for a, b in zip(parts, made.skills["a"][path][:2]))


def test_psec_weights_differ_within_a_batch_and_carry_gradients():
    made, model, x = library(("a", draw(2, 3.0, 0)), ("b", draw(1, 0.5, 1))), layer(), torch.randn(3, 4, 6)
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.3, -0.6]], requires_grad=True)
    with made.on(model):
        assert torch.equal(model["layer"](x), model["layer"].base(x)), "no skill before weights are given"
        made.weigh(weights)
        y = model["layer"](x)
        for row in range(3):
            made.weigh(weights[row])
            torch.testing.assert_close(y[row], model["layer"](x)[row])
    y.sum().backward()
    assert weights.grad.abs().min() > 0
    assert type(model["layer"]) is nn.Linear
    assert model["layer"].weight.requires_grad


def test_psec_composed_by_context_beats_each_skill_alone_on_mixed_data():
    skills = {"a": draw(2, 1.0, 0), "b": draw(2, 1.0, 1)}
    made, model = library(*skills.items()), layer()
    generator = torch.Generator().manual_seed(3)
    context = torch.randn(200, 3, generator=generator)
    x = torch.randn(200, 6, generator=generator)
    mix = torch.stack([torch.sigmoid(3 * context[:, 0]), torch.sigmoid(-3 * context[:, 0])], 1)
    deltas = [dense_update(skill["layer"]) for skill in skills.values()]
    with torch.no_grad():
        y = model["layer"](x) + sum(mix[:, i : i + 1] * (x @ delta.T) for i, delta in enumerate(deltas))
    network = Context(3, 2, torch.Generator().manual_seed(0))
    assert network(context)[0].tolist() == pytest.approx([0.5, 0.5])
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)

    def error(weights):
        made.weigh(weights)
        return (model["layer"](x) - y).square().mean()

    with made.on(model):
        alone = [error(torch.eye(2)[i]).item() for i in range(2)]
        uniform = error(torch.tensor([0.5, 0.5])).item()
        for _ in range(150):
            optimizer.zero_grad()
            error(network(context)).backward()
            optimizer.step()
        composed = error(network(context)).item()
    assert composed < 0.2 * min(*alone, uniform)


def test_wrong_use_is_told():
    made = library(("a", draw(1, 1.0, 0)))
    with pytest.raises(UsageError, match="'a'"):
        made.add("a", draw(1, 1.0, 0))
    with pytest.raises(UsageError, match="other layers"):
        made.add("b", {})
    with pytest.raises(UsageError, match="no skill called 'c'"):
        made.compose({"c": 1.0})
    with pytest.raises(UsageError, match="2 weights"):
        made.compose([1.0, 2.0])
    with pytest.raises(UsageError, match="3 weights"):
        made.weigh(torch.ones(3))
