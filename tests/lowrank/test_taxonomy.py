"""lorafactory shows: every registered adapter keeps one contract, and a sweep finds most of them tied with LoRA."""

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.taxonomy import AXES, IN, OUT, RANK, taxonomy

LAYERS = ("wide", "narrow", "transposed")
VARIANTS = {variant.name: variant for variant in taxonomy()}


def statistics(model):
    """What one calibration pass might have seen."""
    generator = torch.Generator().manual_seed(0)
    seen = {}
    for path, shape in (("wide", (10, 6)), ("narrow", (5, 10)), ("transposed", (7, 5))):
        fisher = {f"fisher_{kind}": torch.rand(shape, generator=generator) for kind in ("forget", "retain")}
        drawn = {
            "gradient": torch.randn(shape, generator=generator),
            "inputs": torch.randn(40, shape[1], generator=generator),
        }
        seen[path] = drawn | fisher
    return seen


@pytest.mark.parametrize("name", VARIANTS)
def test_lorafactory_every_registered_adapter_keeps_the_contract(name, tower, shake, tmp_path):
    variant, model, x = VARIANTS[name], tower().eval(), torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(1))
    seen = statistics(model) if variant.needs else None
    adapter = lowrank.attach(model, name, rank=2, targets=LAYERS, trained=["head"], statistics=seen)
    with adapter.disabled():
        base = model(x)
    if lowrank.STARTS[variant.start].keeps_output:
        torch.testing.assert_close(model(x), base, atol=2e-5, rtol=2e-5)
    count = sum(parameter.numel() for parameter in adapter.trained["head"].parameters())
    assert adapter.num_parameters() == count + sum(form.parameter_count() for form in adapter.forms.values())
    shake(adapter)
    scores = model(x)
    assert not torch.equal(scores, base)
    adapter.save(tmp_path / "adapter")
    fresh = tower().eval()
    lowrank.load(fresh, tmp_path / "adapter")
    torch.testing.assert_close(fresh(x), scores)
    assert all(form.mergeable == variant.mergeable for form in adapter.forms.values())
    if adapter.mergeable:
        adapter.merge()
        torch.testing.assert_close(model(x), scores, atol=2e-5, rtol=2e-5)
        adapter.unmerge()
        assert torch.equal(model(x), scores)


def test_plain_lora_stands_on_no_axis_and_everything_else_on_one_at_least():
    assert [name for name, variant in VARIANTS.items() if not variant.axes] == ["lora"]
    for axis in AXES:
        names = [variant.name for variant in taxonomy(axis)]
        assert names == [name for name, variant in VARIANTS.items() if axis in variant.axes]
        assert names
    with pytest.raises(UsageError, match="initialization"):
        taxonomy("start")


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("dora", ("rank",)),
        ("adalora", ("rank",)),
        ("plop", ("rank",)),
        ("lora-plus", ("optimization",)),
        ("rslora", ("optimization",)),
        ("bilora", ("rank", "optimization")),
        ("pissa", ("initialization",)),
        ("eva", ("rank", "initialization")),
        ("lora-sb", ("rank", "initialization")),
        ("taps", ("experts",)),
        ("flylora", ("experts",)),
    ],
)
def test_the_axes_of_well_known_methods(name, axes):
    assert VARIANTS[name].axes == axes


def test_ranks_and_values_are_those_of_the_formulas():
    lora = RANK * (IN + OUT)
    for name, rank, values in (
        ("lora", 1, 1),
        ("gralora", 2, 1),
        ("lora-fa", 1, RANK * OUT / lora),
        ("dora", OUT / RANK, 1 + OUT / lora),
        ("lora-xs", 1, RANK**2 / lora),
        ("vera", 1, (RANK + OUT) / lora),
        ("palora", 2, 2),
    ):
        assert (VARIANTS[name].rank, VARIANTS[name].values) == (rank, round(values, 2))
    assert VARIANTS["eva"].needs == ("inputs",)
    assert {name for name, variant in VARIANTS.items() if variant.peft} >= {"lora", "dora", "pissa", "rslora"}
    assert not VARIANTS["flylora"].mergeable
    assert VARIANTS["miss"].additive
    assert not VARIANTS["dora"].additive


class Network(nn.Module):
    """What was trained before: two layers, the same for all methods of a seed."""

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first, self.second = nn.Linear(24, 32), nn.Linear(32, 1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x))).squeeze(-1)


def planted(method, rate, seed, steps=40):
    """Train ``method`` towards a network with an update of rank 3 in its first layer, under noise."""
    teacher, student = Network(seed), Network(seed)
    generator = torch.Generator().manual_seed(100 + seed)
    with torch.no_grad():
        up, down = torch.randn(32, 3, generator=generator), torch.randn(3, 24, generator=generator)
        teacher.first.weight += 0.3 * up @ down / 24**0.5
        sets = []
        for rows in (160, 200, 200):  # training, development, test
            x = torch.randn(rows, 24, generator=generator)
            sets.append((x, teacher(x) + 0.3 * torch.randn(rows, generator=generator)))

    def loss(of):
        return (student(sets[of][0]) - sets[of][1]).square().mean()

    rule = VARIANTS[method].rule
    adapter = lowrank.attach(student, method, rank=4, targets=["first"], trained=["second"], seed=seed)
    optimizer = lowrank.optimizer(rule, adapter, lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(0).backward()
        optimizer.step()
    with torch.no_grad():
        return loss(1).item(), loss(2).item()


def test_lorafactory_a_sweep_of_learning_rates_finds_plain_lora_within_noise_of_most_variants():
    others = ["rslora", "dora", "pissa", "lora-plus", "gralora", "mora-square", "hydra"]
    swept = lowrank.sweep(["lora", *others], [0.003, 0.01, 0.03], range(4), planted)
    lora = swept["lora"]
    tied = [name for name in others if lowrank.within_noise(lora, swept[name])]
    assert len(tied) > len(others) / 2, {name: (own.rate, own.loss) for name, own in swept.items()}
    untrained = sum(planted("lora", 0.0, seed, steps=1)[1] for seed in range(4)) / 4
    assert lora.loss < 0.7 * untrained  # there was something to learn


def test_a_sweep_chooses_by_development_data_and_passes_over_what_diverged():
    losses = {0.1: (1.0, 5.0), 1.0: (float("nan"), 0.0), 10.0: (2.0, 1.0)}
    swept = lowrank.sweep(["lora"], list(losses), [0, 1], lambda method, rate, seed: losses[rate])["lora"]
    assert (swept.rate, *swept.losses, swept.loss) == pytest.approx((0.1, 5.0, 5.0, 5.0))
    for rates, seeds in (([], [0, 1]), ([0.1], [0])):
        with pytest.raises(UsageError, match="two seeds"):
            lowrank.sweep(["lora"], rates, seeds, lambda *_: (0.0, 0.0))


def test_noise_is_that_of_differences():
    one, other = (lowrank.Swept(name, 0.1, losses) for name, losses in (("a", (1.0, 5.0, 9.0)), ("b", (1.1, 5.1, 9.1))))
    assert not lowrank.within_noise(one, other)  # always 0.1 apart, however far the seeds are
    assert lowrank.within_noise(one, one)
