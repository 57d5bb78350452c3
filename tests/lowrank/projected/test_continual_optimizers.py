"""coso and gorp: updates orthogonal to the history of tasks, GaLore (and LoRA) where there is none, less forgotten."""

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.lowrank.projected.projectors.orthogonal import end_task

SEEDS = (0, 1)
NAMES = ("coso", "gorp")


def gradients(seed, shape, steps=5):
    """Gradients of a task: one direction of the shorter side leads, and a little noise."""
    generator = torch.Generator().manual_seed(seed)
    short, long = min(shape), max(shape)
    lead = torch.randn(short, 1, generator=generator, dtype=torch.float64)
    for _ in range(steps):
        noise = torch.randn(short, long, generator=generator, dtype=torch.float64)
        made = lead @ torch.randn(1, long, generator=generator, dtype=torch.float64) + 1e-3 * noise
        yield made if short == shape[0] else made.t()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(40, 60), (60, 40)])
@pytest.mark.parametrize("seed", SEEDS)
def test_updates_stay_orthogonal_to_the_history_of_20_tasks(name, shape, seed):
    """coso and gorp: |H^T update| below 1e-6 of the update, with H orthonormal after 20 tasks."""
    weight = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    optimizer = lowrank.optimizer(name, [weight], lr=0.1, rank=4, gap=2)
    for number in range(20):
        for gradient in gradients(100 * seed + number, shape):
            before = weight.detach().clone()
            weight.grad = gradient.contiguous()
            optimizer.step()
            move = weight.detach() - before
            move = move.t() if shape[0] > shape[1] else move
            assert move.norm() > 0
            if "history" in optimizer.state[weight]:
                assert (optimizer.state[weight]["history"].t() @ move).norm() < 1e-6 * move.norm()
        end_task(optimizer, 0.5)
    history = optimizer.state[weight]["history"]
    assert history.shape[1] >= 20
    torch.testing.assert_close(history.t() @ history, torch.eye(history.shape[1], dtype=torch.float64))


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_on_an_earlier_gradient_within_the_history_stays_to_first_order(name):
    """coso and gorp: <G, update> = 0 for a gradient G of a former task whose columns lie in the history."""
    weight = nn.Parameter(torch.zeros(10, 14, dtype=torch.float64))
    optimizer = lowrank.optimizer(name, [weight], lr=0.1, rank=3, gap=2)
    former = list(gradients(3, (10, 14)))
    for gradient in former:
        weight.grad = gradient
        optimizer.step()
    end_task(optimizer)
    history = optimizer.state[weight]["history"]
    within = history @ (history.t() @ former[0])
    assert within.norm() > 0.9 * former[0].norm()
    for gradient in gradients(4, (10, 14)):
        before = weight.detach().clone()
        weight.grad = gradient
        optimizer.step()
        move = weight.detach() - before
        assert abs(float((within * move).sum())) < 1e-9 * float(within.norm() * move.norm())


@pytest.mark.parametrize("seed", SEEDS)
def test_coso_without_a_history_is_galore(seed):
    found = []
    for name in ("galore", "coso"):
        weight = nn.Parameter(torch.zeros(10, 14, dtype=torch.float64))
        optimizer = lowrank.optimizer(name, [weight], lr=0.1, rank=2, gap=3)
        for gradient in gradients(seed, (10, 14), 8):
            weight.grad = gradient
            optimizer.step()
        found.append(weight.detach())
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("shape", [(10, 14), (14, 10)])
@pytest.mark.parametrize("seed", SEEDS)
def test_gorp_without_a_history_is_galore_and_a_lora(shape, seed):
    """A peer with a weight under GaLore and factors of their own, differentiated by autograd, ends at the same sum."""
    torch.manual_seed(seed)
    X, Y = torch.randn(30, shape[1], dtype=torch.float64), torch.randn(30, shape[0], dtype=torch.float64)
    rank, lr, rate, r = 4, 0.02, 2.5, 2

    def loss(weight):
        return (X @ weight.t() - Y).square().mean()

    joint = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    gorp = lowrank.optimizer("gorp", [joint], lr=lr, rank=rank, gap=100, companion=r)
    W = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    galore = lowrank.optimizer("galore", [W], lr=lr, rank=rank, gap=100)
    turned = shape[0] >= shape[1]
    L = Q = z = None
    for _ in range(6):
        loss(joint).backward()
        gorp.step()
        gorp.zero_grad()
        product = 0 if L is None else L @ Q
        product = product.t() if turned and L is not None else product
        loss(W + product).backward()
        if L is None:  # P is that of the first gradient
            G = W.grad.t() if turned else W.grad
            P = torch.linalg.svd(G, full_matrices=False).U[:, :rank]
            L = P[:, :r] / 3**0.5
            z = nn.Parameter(torch.zeros(rank, r, dtype=torch.float64))  # the change of L in coordinates of P
            q = nn.Parameter(torch.zeros(r, max(shape), dtype=torch.float64))
            plain = torch.optim.Adam([z, q], lr=lr * rate)
            start = L
        G = (W.grad.t() if turned else W.grad).detach()
        z.grad, q.grad = P.t() @ G @ q.detach().t(), (start + P @ z.detach()).t() @ G
        plain.step()
        L, Q = (start + P @ z).detach(), q.detach()
        galore.step()
        galore.zero_grad()
    product = (L @ Q).t() if turned else L @ Q
    # bases are unique up to the signs of their columns, on which the sum does not depend
    torch.testing.assert_close(joint.detach(), W.detach() + product)


def forgotten(name, seed):
    """The error on task 1 that task 2 adds: two regressions with inputs in other, overlapping directions."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    bases = [torch.linalg.qr(draw(16, 4)).Q for _ in range(2)]
    truths = [draw(12, 16) / 4 for _ in range(2)]
    weight = nn.Parameter(torch.zeros(12, 16))
    model = None
    if name == "lora":
        model = nn.Sequential(nn.Linear(16, 12, bias=False))
        model[0].weight.data.zero_()
        adapter = lowrank.attach(model, "lora", rank=8, seed=seed)
        optimizer = torch.optim.Adam(adapter.parameters(), lr=0.02)
    else:
        weight = nn.Parameter(torch.zeros(16, 12).t().contiguous())
        optimizer = lowrank.optimizer(name, [weight], lr=0.02, rank=6, scale=1.0, gap=10)

    def error(task, x):
        y = model(x) if model is not None else x @ weight.t()
        return (y - x @ truths[task].t()).square().mean()

    def fixed(task):
        return torch.randn(200, 4, generator=torch.Generator().manual_seed(7)) @ bases[task].t()

    scores = []
    for task in range(2):
        for _ in range(200):
            error(task, draw(32, 4) @ bases[task].t()).backward()
            optimizer.step()
            optimizer.zero_grad()
        scores.append(float(error(0, fixed(0)).detach()))
        assert float(error(0, fixed(0)).detach()) < 0.5 * float((fixed(0) @ truths[0].t()).square().mean()) or task
        if name != "lora" and task == 0:
            end_task(optimizer, 0.999)
    return scores[1] - scores[0]


@pytest.mark.parametrize("name", NAMES)
def test_less_is_forgotten_than_by_one_lora_that_trains_on(name):
    """coso and gorp against sequential LoRA, over seeds."""
    ours = sum(forgotten(name, seed) for seed in range(5))
    theirs = sum(forgotten("lora", seed) for seed in range(5))
    assert ours < 0.6 * theirs, (ours, theirs)
