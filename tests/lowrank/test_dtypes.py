"""Every method, start and router in half precision, in float64 and under autocast; the model may move at any time."""

import pytest
import torch

from adapter_methods import POINTS, attach, label

every_point = pytest.mark.parametrize("point", POINTS, ids=label)
MOVES = {
    "bf16": (lambda model: model.to(torch.bfloat16), torch.bfloat16, 0.25),
    "half": (lambda model: model.half(), torch.float16, 0.05),
    "float64": (lambda model: model.double(), torch.float64, 1e-4),
}


def batches(dtype):
    """Few rows and many: forms choose their products by it."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in ((1, 6), (9, 8, 6))]


@every_point
@pytest.mark.parametrize("move", MOVES)
def test_a_model_that_moves_after_attaching_computes_the_same(point, move, tower, shake):
    to, dtype, near = MOVES[move]
    model = tower()
    adapter = attach(model, point)
    shake(adapter)
    model.eval()
    expected = [model(x) for x in batches(torch.float32)]
    to(model)
    for x, reference in zip(batches(dtype), expected, strict=True):
        scores = model(x)
        assert scores.dtype == dtype
        torch.testing.assert_close(scores.float(), reference, atol=near, rtol=near)
    for x in batches(dtype):
        model.train()(x).float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in adapter.parameters())
    if adapter.mergeable:
        for layer in adapter.layers.values():
            assert layer.delta().dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
            assert all(form.delta(layer.frozen.weight).dtype is layer.delta().dtype for form in layer.forms.values())
        adapter.merge()
        for x, reference in zip(batches(dtype), expected, strict=True):
            torch.testing.assert_close(model.eval()(x).float(), reference, atol=near, rtol=near)


@every_point
def test_autocast_is_near_float32_and_its_gradients_are_finite(point, tower, shake):
    model = tower()
    adapter = attach(model, point)
    shake(adapter)
    expected = [model.eval()(x) for x in batches(torch.float32)]
    for x, reference in zip(batches(torch.float32), expected, strict=True):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scores = model.eval()(x)
            loss = model.train()(x).float().square().mean()
        torch.testing.assert_close(scores.float(), reference, atol=0.1, rtol=0.1)
        loss.backward()
    assert all(p.grad.dtype is torch.float32 and p.grad.isfinite().all() for p in adapter.parameters())


@every_point
def test_a_schedule_runs_on_in_half_precision(point, tower):
    model = tower()
    adapter = attach(model, point)
    model.to(torch.bfloat16)
    optimizer = torch.optim.SGD(adapter.parameters(), lr=0.01)
    for step in range(8):
        model(batches(torch.bfloat16)[1]).float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        for form in adapter.forms.values():
            form.advance(step + 1, 8)
    assert all(tensor.isfinite().all() for tensor in adapter.state().values())
