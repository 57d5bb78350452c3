import math

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.lowrank.spectra import adapter_spectra, effective_rank, factor_spectrum


@pytest.mark.parametrize("shape", [(7, 3, 5), (3, 7, 5), (4, 4, 4), (2, 9, 6)])
def test_the_spectrum_is_that_of_the_dense_product(shape):
    rank, inner, outer = shape
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(rank, inner, generator=generator), torch.randn(outer, rank, generator=generator)
    dense = torch.linalg.svdvals(0.5 * b.double() @ a.double())
    found = factor_spectrum(a, b, 0.5)
    assert torch.allclose(found, dense[: len(found)], atol=1e-10)
    assert (dense[len(found) :] < 1e-10).all()


def test_effective_rank_of_two_unequal_directions():
    p, q = 0.75, 0.25
    expected = math.exp(-(p * math.log(p) + q * math.log(q)))
    assert effective_rank(torch.tensor([3.0, 1.0])) == pytest.approx(expected)
    assert effective_rank(torch.zeros(3)) == 0.0
    assert effective_rank(torch.tensor([5.0, 0.0])) == pytest.approx(1.0)


def test_an_adapter_folder_is_described_layer_by_layer(tmp_path):
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    adapter = lowrank.attach(model, "lora", rank=2, alpha=4, ranks={"1": 3})
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(1))
    adapter.save(tmp_path / "adapter")
    first, second = adapter_spectra(tmp_path / "adapter")
    delta = adapter.forms["0"].delta(model[0].base.weight)
    assert (first["path"], first["rank"], first["parameters"]) == ("0", 2, 2 * (6 + 5))
    assert first["norm"] == pytest.approx(float(delta.norm()), rel=1e-5)
    assert (second["rank"], second["shape"]) == (3, [4, 5])
