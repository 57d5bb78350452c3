"""torch.compile takes adapted models whole: one graph, the same outputs and gradients, with and without the merge."""

import pytest
import torch

from adapter_methods import VARIANTS, attach, label
from lorank.lowrank.forms.form import FORMS, ROUTED

TOLD = {"palora", "mhr"}
"""Forms that read what was told to ``lowrank.context``: a context variable, which no graph can hold."""
EVENTS = {"base-layers", "losia"}
"""Forms whose training solves an assignment step by step, or takes note of a gradient before it moves."""
COMPILED = [
    *((name, None, {}) for name in sorted({*FORMS, *ROUTED} - TOLD)),
    *((name, None, options) for name, options in VARIANTS.items()),
    ("lora", "svd", {}),
    ("dora", "olora", {}),
]


QUICK = {("lora", "svd"), ("lora", None), ("c3a", None), ("gated", None), ("edora", None)}
"""Those of every run of the tests: one of each way of computing."""


def marked(points):
    """The points, those beyond ``QUICK`` marked as slow: together they take a minute to trace."""
    return [pytest.param(p, id=label(p), marks=[] if p[:2] in QUICK else pytest.mark.slow) for p in points]


@pytest.fixture(autouse=True)
def forget_graphs():
    torch._dynamo.reset()


@pytest.mark.parametrize("point", marked(COMPILED))
def test_one_graph_computes_what_the_model_does(point, tower, shake):
    model = tower()
    adapter = attach(model, point)
    shake(adapter)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    x = torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(compiled.eval()(x), model(x))
    if point[0] not in EVENTS:
        parameters = list(adapter.parameters())
        ours = torch.autograd.grad(compiled.train()(x).square().sum(), parameters)
        theirs = torch.autograd.grad(model(x).square().sum(), parameters)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other)
    if adapter.mergeable:
        expected = model.eval()(x)
        adapter.merge()
        torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(x), expected)


@pytest.mark.parametrize("name", ["lora", "dora"])
def test_the_backward_graph_is_whole_too_and_follows_the_factors(name, tower, shake):
    model = tower()
    adapter = attach(model, (name, None, {}))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    optimizer = torch.optim.SGD(adapter.parameters(), lr=0.05)
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        optimizer.zero_grad()
        compiled(x).square().mean().backward()
        optimizer.step()
        torch.testing.assert_close(compiled(x), model(x))
        compiled.eval()
        torch.testing.assert_close(compiled(x), model(x))
        compiled.train()
    with adapter.disabled():
        torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TOLD | EVENTS))
def test_the_others_train_compiled_with_breaks(name, tower, shake):
    model = tower()
    adapter = attach(model, (name, None, {}))
    shake(adapter)
    x = torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.compile(model, backend="eager")(x), model(x))
