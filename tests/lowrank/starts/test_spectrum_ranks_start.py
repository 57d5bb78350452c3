"""LaMDA++: flat spectra get more rank under a fixed budget."""

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.lowrank.starts.sharing import share_ranks
from lorank.lowrank.starts.spectrum_ranks import flatness


def test_flat_spectra_get_more_rank_under_the_budget():
    generator = torch.Generator().manual_seed(0)
    U, V = (torch.linalg.qr(torch.randn(12, 12, generator=generator)).Q for _ in range(2))
    model = nn.ModuleDict({name: nn.Linear(12, 12) for name in ("steep", "middle", "flat")})
    with torch.no_grad():
        for name, decay in (("steep", 0.1), ("middle", 0.7), ("flat", 1.0)):
            model[name].weight.copy_(U * decay ** torch.arange(12) @ V)
    adapter = lowrank.attach(model, "lamda-plus-plus", rank=4)
    ranks = {path: form.rank for path, form in adapter.forms.items()}
    assert sum(ranks.values()) == 12
    assert ranks["steep"] < ranks["middle"] < ranks["flat"]
    assert ranks["flat"] <= 12


def test_shares_keep_to_their_limits_and_the_budget():
    limits = {"a": (1, 2), "b": (0, 3), "c": (0, 9)}
    assert share_ranks({"a": 0.0, "b": 5.0, "c": 5.0}, limits, 7) == {"a": 1, "b": 3, "c": 3}
    assert sum(share_ranks({"a": 9.0, "b": 9.0, "c": 0.0}, limits, 7).values()) == 7
    assert share_ranks({"a": 1.0, "b": 1.0, "c": 1.0}, limits, 99) == {"a": 2, "b": 3, "c": 9}
    assert share_ranks({"a": 0.0, "b": 0.0}, {"a": (0, 4), "b": (0, 4)}, 4) == {"a": 2, "b": 2}


@pytest.mark.by_hand("spectrum-ranks")
def test_two_by_three_by_hand():
    model = nn.ModuleDict({name: nn.Linear(3, 2) for name in ("steep", "flat")})
    with torch.no_grad():
        model["steep"].weight.copy_(torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
        model["flat"].weight.copy_(torch.tensor([[0.0, 2.0, 0.0], [2.0, 0.0, 0.0]]))
    # effective ranks 1 and 2: three ranks are shared out as 1 and 2, whoever had them before
    adapter = lowrank.attach(model, "lamda-plus-plus", ranks={"steep": 2, "flat": 1})
    assert {path: form.rank for path, form in adapter.forms.items()} == {"steep": 1, "flat": 2}
    # p = 3/4, 1/4: exp(H) = (4/3)^(3/4) 4^(1/4) = 4 / 27^(1/4)
    assert flatness(torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 1.0]])) == pytest.approx(4 / 27**0.25)
