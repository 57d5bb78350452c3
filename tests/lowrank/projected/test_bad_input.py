"""Optimizers that cannot be are refused before a step, with what to do."""

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.projected import ProjectedOptimizer, Projection

CASES = {
    "rank is -1; give": {"rank": -1},
    "rank is 2.5; give": {"rank": 2.5},
    "gap is -5; give a whole number of 1": {"gap": -5},
    "gap is 0; give a whole number of 1": {"gap": 0},
    "interval is 0": {"interval": 0},
    "active is 0": {"active": 0},
    "patience is 0": {"patience": 0},
    "scale is 0": {"scale": 0.0},
    "limit is nan": {"limit": float("nan")},
    "threshold is 1.5": {"threshold": 1.5},
    "rest_rate is -1": {"rest_rate": -1.0},
    "per is 'row'; give column or matrix": {"per": "row"},
    "rounding is 'up'": {"rounding": "up"},
    "unknown projector 'svdd'; did you mean 'svd'": {"projector": "svdd"},
    "unknown refresh policy": {"refresh": "eager"},
    "unknown inner rule 'adamx'; did you mean 'adamw'": {"inner": "adamx"},
    "unknown residual rule": {"residual": "firra"},
    "unknown treatment of moments": {"moments": "rotate"},
    "unknown policy of layers": {"layers": "some"},
    "unknown treatment of weights": {"weights": "int3"},
    "use it with moments 'reset'": {"projector": "blocks"},
    "has no option 'ranks'; it has: projector": {"ranks": 3},
    "lr is -1": {"lr": -1.0},
    "betas are": {"betas": (0.9, 1.0)},
    "eps is -1": {"eps": -1.0},
    "weight_decay is inf": {"weight_decay": float("inf")},
    "above the shorter side of every matrix; give a lower rank": {"rank": 6},
}


@pytest.mark.parametrize(("message", "options"), CASES.items(), ids=list(CASES))
def test_options_that_cannot_be(message, options):
    model = nn.Sequential(nn.Linear(5, 9), nn.Linear(9, 2))
    with pytest.raises(UsageError, match=message):
        lowrank.optimizer("galore", model.parameters(), **{"lr": 0.1, **options})


def test_a_rank_above_a_named_matrix_says_which_and_what_to_do():
    model = nn.Sequential(nn.Linear(5, 9), nn.Linear(9, 2))
    with pytest.raises(UsageError, match=r"rank 3 is above the shorter side .* \(2, 9\); give a rank of 2 or less"):
        lowrank.optimizer("galore", model, lr=0.1, rank=3)
    with pytest.raises(UsageError, match="rank None, where it steps without projection"):
        lowrank.optimizer("galore", [{"params": [model[1].weight], "rank": 3}, model[0].weight], lr=0.1)
    loose = lowrank.optimizer("galore", model.parameters(), lr=0.1, rank=3)
    assert loose.ranks[model[1].weight] is None


def test_what_is_no_parameter_of_ours():
    model = nn.Linear(4, 4)
    with pytest.raises(UsageError, match="unknown optimizer 'galoer'; did you mean 'galore'"):
        lowrank.optimizer("galoer", model, lr=0.1)
    with pytest.raises(UsageError, match="give the model, or its parameters"):
        lowrank.optimizer("galore", lowrank.attach(model_of_two(), rank=1), lr=0.1)
    with pytest.raises(UsageError, match="no matrix to project; use"):
        lowrank.optimizer("galore", [model.bias], lr=0.1)
    with pytest.raises(UsageError, match="no parameters"):
        lowrank.optimizer("galore", [], lr=0.1)
    with pytest.raises(UsageError, match="not a str"):
        lowrank.optimizer("galore", ["weight"], lr=0.1)
    with pytest.raises(UsageError, match="nothing in this model is trained"):
        lowrank.optimizer("galore", nn.Linear(4, 4).requires_grad_(False), lr=0.1)
    with pytest.raises(UsageError, match="dequantise it first"):
        lowrank.optimizer("galore", [nn.Parameter(torch.zeros(4, 4, dtype=torch.int8), requires_grad=False)], lr=0.1)
    with pytest.raises(UsageError, match="bfloat16, and these are in float16"):
        lowrank.optimizer("galore", nn.Linear(4, 4).half().parameters(), lr=0.1, rounding="stochastic")


def model_of_two():
    return nn.Sequential(nn.Linear(5, 9), nn.Linear(9, 2))


def test_sparse_gradients_are_refused():
    table = nn.Embedding(10, 4, sparse=True)
    optimizer = ProjectedOptimizer(table.parameters(), Projection(), lr=0.1)
    table(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(UsageError, match="sparse=False"):
        optimizer.step()


def test_a_missing_library_is_named(monkeypatch):
    import sys

    from lorank.lowrank.projected.inner.low_bit import torchao_codes

    monkeypatch.setitem(sys.modules, "torchao.optim", None)
    torchao_codes.cache_clear()
    with pytest.raises(UsageError, match=r"pip install 'lorank\[quantised\]'"):
        lowrank.optimizer("adamw8bit", nn.Linear(4, 4), lr=0.1)
    torchao_codes.cache_clear()
