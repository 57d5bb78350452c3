"""sg-lora: adapters out of task descriptions, on a planted family of tasks."""

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.algebra import AdapterGenerator, combine, dense_update, factors_of
from lorank.lowrank.algebra.generation import flatten, unflatten


def direction(angle):
    return torch.stack([torch.cos(angle), torch.sin(angle)], -1)


def task(angle, seed=0):
    """A planted family: outputs turn with the angle, which is also what the description says."""
    generator = torch.Generator().manual_seed(seed)
    U = torch.linalg.qr(torch.randn(8, 2, generator=generator)).Q
    v = torch.randn(8, generator=generator)
    return 2 * torch.outer(U @ direction(angle), v / v.norm())


def base():
    torch.manual_seed(1)
    return nn.ModuleDict({"layer": nn.Linear(8, 8, bias=False)})


def data(angle, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(128, 8, generator=generator)
    return x, x @ (base()["layer"].weight.detach() + task(angle)).T


def expert(angle):
    model = base()
    adapter = lowrank.attach(model, "lora", rank=2, alpha=2.0, seed=0)
    x, y = data(angle, 5)
    optimizer = torch.optim.Adam(adapter.parameters(), lr=0.05)
    for _ in range(120):
        optimizer.zero_grad()
        (model["layer"](x) - y).square().mean().backward()
        optimizer.step()
    return factors_of(adapter)


@pytest.fixture(scope="module")
def family():
    angles = torch.linspace(0, 2.4, 7)
    known = [index for index in range(7) if index != 3]
    experts = [expert(angles[index]) for index in known]
    generator = AdapterGenerator(experts, direction(angles[known]), temperature=0.05)
    losses = generator.fit(300)
    assert losses[-1] < 0.3 * losses[0]
    return angles, known, experts, generator


def error(factors, angle):
    x, y = data(angle, 6)
    return (x @ (base()["layer"].weight + dense_update(factors["layer"])).T - y).square().mean().item()


def test_sg_lora_an_experts_own_description_returns_parameters_near_that_experts(family):
    angles, known, experts, generator = family
    vectors = torch.stack([flatten(own) for own in experts])
    for place, index in enumerate(known):
        made = flatten(generator.generate(direction(angles[index])))
        assert (vectors - made).norm(dim=1).argmin() == place
        assert (vectors[place] - made).norm() < 0.35 * (vectors[place] - vectors.mean(0)).norm()


def test_sg_lora_beats_base_and_uniform_merge_on_a_held_out_task(family):
    angles, _, experts, generator = family
    held_out = angles[3]
    made = error(generator.generate(direction(held_out)), held_out)
    nothing = {"layer": lowrank.Factors(torch.zeros(0, 8), torch.zeros(8, 0), 1.0)}
    assert made < error(combine(experts), held_out)
    assert made < 0.5 * error(nothing, held_out)


def test_sg_lora_weights_follow_the_description_and_draws_follow_the_generator(family):
    angles, known, experts, generator = family
    weights = generator.weights(direction(angles[known]))
    assert (weights.argmax(1) == torch.arange(len(known))).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(len(known), dtype=torch.float64))
    one, two, other = (
        flatten(generator.generate(direction(angles[3]), torch.Generator().manual_seed(seed))) for seed in (0, 0, 1)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    torch.testing.assert_close(flatten(unflatten(one, experts[0])), one)


def test_wrong_use_is_told(family):
    with pytest.raises(UsageError, match="two experts"):
        AdapterGenerator(family[2][:1], torch.ones(1, 2))
