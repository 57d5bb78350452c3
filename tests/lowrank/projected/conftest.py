"""Small problems for projected optimizers: a tower with matrices of both shapes, and steps as any loop makes them."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from lorank.lowrank.projected import ProjectedOptimizer, Projection

NEEDS_TORCHAO = ("adamw8bit", "adamw4bit")


def tower(seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """A wide and a narrow layer, a normalisation and a head of one row."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 10), nn.LayerNorm(10), nn.Tanh(), nn.Linear(10, 5), nn.Linear(5, 1))
    return model.to(dtype)


def loss_of(model: nn.Module, step: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The square error of a regression whose batch changes with the step."""
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(step)).to(dtype)
    return (model(x).squeeze(1) - x.sum(1)).square().mean()


def go(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range, dtype: torch.dtype = torch.float32) -> None:
    """Make the steps."""
    for step in steps:
        loss_of(model, step, dtype).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def given(weight: list, gradient: list, options: Projection, **rates) -> torch.Tensor:
    """The weight after one step by a gradient."""
    parameter = nn.Parameter(torch.tensor(weight, dtype=torch.float64))
    optimizer = ProjectedOptimizer([parameter], options, **rates)
    parameter.grad = torch.tensor(gradient, dtype=torch.float64)
    optimizer.step()
    return parameter.detach()


@pytest.fixture(name="tower")
def tower_fixture() -> Callable[..., nn.Sequential]:
    return tower


@pytest.fixture(name="go")
def go_fixture() -> Callable[..., None]:
    return go


@pytest.fixture(name="loss_of")
def loss_fixture() -> Callable[..., torch.Tensor]:
    return loss_of


@pytest.fixture(name="given")
def given_fixture() -> Callable[..., torch.Tensor]:
    return given


@pytest.fixture
def needs() -> Callable[[str], None]:
    """Skip where an inner rule's library is not installed."""

    def check(inner: str) -> None:
        if inner in NEEDS_TORCHAO:
            pytest.importorskip("torchao.optim", reason="torchao is not installed")

    return check
