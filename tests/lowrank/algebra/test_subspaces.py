"""eigenlorax: recycled adapters."""

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank import Factors
from lorank.lowrank.algebra import dense_update, project, recycle
from lorank.lowrank.algebra.subspaces import eigen_bases


def library(count, rank=2, shared=None):
    """Adapters of one layer 12 x 10, all drawn from ``shared`` directions a side where given."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(shared or 10, 10, generator=generator, dtype=torch.float64)
    columns = torch.randn(12, shared or 12, generator=generator, dtype=torch.float64)
    sets = []
    for index in range(count):
        A = torch.randn(rank, len(rows), generator=generator, dtype=torch.float64) @ rows
        B = columns @ torch.randn(columns.shape[1], rank, generator=generator, dtype=torch.float64)
        sets.append({"layer": Factors(A, B, 1.0 + index)})
    return sets


def model():
    return nn.ModuleDict({"layer": nn.Linear(10, 12).double()})


@pytest.mark.parametrize(("count", "shared", "components"), [(3, None, 6), (6, 3, 3), (6, 3, 5), (1, None, 4)])
def test_eigenlorax_bases_are_orthonormal_and_reproduce_old_adapters(count, shared, components):
    sets = library(count, shared=shared)
    V, U = eigen_bases(sets, "layer", components)
    eye = torch.eye(components, dtype=torch.float64)
    torch.testing.assert_close(V @ V.T, eye)
    torch.testing.assert_close(U.T @ U, eye)
    target = model()
    options = {"components": components}
    adapter = lowrank.attach(target, "eigenlorax", rank=2, alpha=4.0, options=options)
    recycle(adapter, sets)
    update, weight = adapter.forms["layer"], target["layer"].base.weight
    assert update.delta(weight).abs().max() == 0
    for own in sets:
        project(adapter, own)
        torch.testing.assert_close(update.delta(weight), dense_update(own["layer"]), atol=1e-6, rtol=1e-6)


def test_eigenlorax_trains_coefficients_alone():
    adapter = lowrank.attach(model(), "eigenlorax", rank=2, options={"components": 5})
    assert adapter.num_parameters() == 2 * 2 * 5
    assert {name for name, _ in adapter.named_parameters()} == {"layer.c_A", "layer.c_B"}


def test_the_principal_directions_come_first():
    sets = library(8, shared=3)
    noisy = [{"layer": Factors(own["layer"].A + 1e-3, own["layer"].B, own["layer"].scaling)} for own in sets]
    V, _ = eigen_bases(noisy, "layer", 3)
    exact, _ = eigen_bases(sets, "layer", 3)
    assert torch.linalg.matrix_norm(V @ exact.T, -2) > 0.99


def test_an_adapter_outside_the_span_is_projected_and_wrong_use_is_told():
    sets = library(2)
    adapter = lowrank.attach(model(), "eigenlorax", rank=2, options={"components": 4})
    recycle(adapter, sets)
    stranger = library(5)[4]
    project(adapter, stranger)
    V, U = eigen_bases(sets, "layer", 4)
    expected = U @ U.T @ dense_update(stranger["layer"]) @ V.T @ V
    torch.testing.assert_close(adapter.layers["layer"].delta(), expected)
    with pytest.raises(UsageError, match="do not fit"):
        project(adapter, library(1, rank=3)[0])
    with pytest.raises(UsageError, match="eigenlorax"):
        recycle(lowrank.attach(model(), "lora"), sets)
    with pytest.raises(UsageError, match="no adapter"):
        eigen_bases(sets, "other", 2)
