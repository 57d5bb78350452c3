"""adarank-merge: masks over singular components, learned from unlabelled inputs."""

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank import Factors
from lorank.lowrank.algebra import adarank, attach_factors, dense_update, list_entropy


def planted():
    """A scorer whose classes 0 and 1 are made sharp by one adapter each; the second also blurs class 0."""
    model = nn.ModuleDict({"layer": nn.Linear(4, 4, bias=False)})
    with torch.no_grad():
        model["layer"].weight.copy_(0.5 * torch.eye(4))
    eye = torch.eye(4)
    first = {"layer": Factors(eye[:1], 6 * eye[:, :1], 1.0)}
    helpful, harmful = (eye[1:2], 5 * eye[:, 1:2]), (eye[:1], -4.5 * eye[:, :1])
    A, B = (torch.cat(parts, dim) for parts, dim in zip(zip(helpful, harmful, strict=True), (0, 1), strict=True))
    return model, first, {"layer": Factors(A, B, 1.0)}


def entropy(model):
    inputs = torch.eye(4)[:2]
    return list_entropy(model["layer"](inputs), torch.ones(2, 4, dtype=torch.bool))


def test_adarank_merge_with_all_ones_is_task_arithmetic():
    model, *sets = planted()
    result = adarank(model, sets, entropy, steps=0, weights=[0.5, 2.0])
    assert all(mask.all() for mask in result.masks.values())
    torch.testing.assert_close(
        dense_update(result.factors["layer"]),
        0.5 * dense_update(sets[0]["layer"]) + 2.0 * dense_update(sets[1]["layer"]),
    )


def test_adarank_merge_prunes_a_planted_interfering_component_and_entropy_falls():
    model, *sets = planted()
    before = model["layer"].weight.clone()
    result = adarank(model, sets, entropy, steps=60)
    assert result.masks["layer"].tolist() == [True, True, False], "the components are sorted by singular value"
    assert result.objective[-1] < 0.5 * result.objective[0]
    assert torch.equal(model["layer"].weight, before)
    assert model["layer"].weight.requires_grad
    attach_factors(model, result.factors)
    assert entropy(model).item() == pytest.approx(result.objective[-1], rel=1e-4)


def test_wrong_use_is_told():
    model, *sets = planted()
    with pytest.raises(UsageError, match="same layers"):
        adarank(model, [sets[0], {}], entropy)
    with pytest.raises(UsageError, match="start"):
        adarank(model, sets, entropy, start=0.0)
    lowrank.attach(model, "lora", rank=1)
    with pytest.raises(UsageError, match="detach"):
        adarank(model, sets, entropy)


def test_list_entropy_is_the_definition_and_ignores_padding():
    scores = torch.tensor([[1.0, 2.0, float("nan")], [0.3, 0.3, 0.3]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    p = torch.softmax(torch.tensor([1.0, 2.0]), 0)
    expected = (-(p * p.log()).sum() + torch.tensor(3.0).log()) / 2
    torch.testing.assert_close(list_entropy(scores, mask), expected)
