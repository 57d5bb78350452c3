"""Fixtures of factored layers."""

import pytest
import torch

from factored_layers import Small


@pytest.fixture
def small():
    return Small()


@pytest.fixture
def rows():
    return torch.randn(7, 24, generator=torch.Generator().manual_seed(5))
