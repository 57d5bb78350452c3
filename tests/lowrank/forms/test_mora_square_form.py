"""MoRA: a 2x3 example worked by hand, its count and rank against LoRA's, and turned blocks."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError


@pytest.mark.by_hand("mora-square")
def test_two_by_three_by_hand(one_layer, set_tensors):
    # k = floor(sqrt(5)) = 2; x in blocks (x_0, x_1), (x_2, 0), summed; the output is one block
    model, form = one_layer([[0.0] * 3, [0.0] * 3], "mora-square", rank=1, options={"kind": "sharing"})
    set_tensors(form, M=[[1.0, 10.0], [2.0, 20.0]])
    assert model["layer"](torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64)).tolist() == pytest.approx(
        np.array([[25.0, 50.0]])
    )
    assert form.delta(model["layer"].weight).tolist() == pytest.approx(np.array([[1.0, 10.0, 1.0], [2.0, 20.0, 2.0]]))


def test_the_second_block_is_turned_by_one_radian(one_layer, set_tensors):
    model, form = one_layer([[0.0] * 3, [0.0] * 3], "mora-square", rank=1)
    set_tensors(form, M=[[1.0, 0.0], [0.0, 1.0]])
    # (x_2, 0) turned by theta_0 = 1
    expected = torch.tensor([[1.0, 0.0, math.cos(1)], [0.0, 1.0, math.sin(1)]], dtype=torch.float64)
    torch.testing.assert_close(form.delta(model["layer"].weight), expected)


@pytest.mark.parametrize(("kind", "rank"), [("rotation", 64), ("sharing", 16), ("summed", 16)])
def test_mora_square_has_loras_count_and_a_higher_rank(kind, rank, shake):
    model = nn.ModuleDict({"layer": nn.Linear(64, 64, dtype=torch.float64)})
    adapter = lowrank.attach(model, "mora-square", rank=2, options={"kind": kind})
    form = adapter.forms["layer"]
    assert form.delta(model["layer"].weight).abs().max() == 0
    assert adapter.num_parameters() == 16**2 == 2 * (64 + 64)
    shake(adapter)
    assert torch.linalg.matrix_rank(form.delta(model["layer"].weight)) == rank == form.rank_bound()


def published(x, M, out):
    """The published rotation where in <= out and k divides in: each turned block times M, repeated along the output."""
    k = len(M)
    blocks = x.view(*x.shape[:-1], -1, k)
    frequencies = torch.outer(torch.arange(blocks.shape[-2]), 1.0 / 10000 ** (torch.arange(0, k, 2) / k)).double()
    angles = torch.cat([frequencies, frequencies], -1)
    halves = torch.cat([-blocks[..., k // 2 :], blocks[..., : k // 2]], -1)
    y = ((blocks * angles.cos() + halves * angles.sin()) @ M.t()).flatten(-2)
    return torch.cat([y] * (-(-out // y.shape[-1])), -1)[..., :out]


@pytest.mark.parametrize(("n", "out", "rank"), [(24, 24, 3), (12, 36, 1), (16, 20, 2), (24, 41, 1)])
def test_the_rotation_is_the_published_one(n, out, rank, shake):
    model = nn.ModuleDict({"layer": nn.Linear(n, out, dtype=torch.float64)})
    adapter = lowrank.attach(model, "mora-square", rank=rank)
    form = adapter.forms["layer"]
    shake(adapter)
    assert n % form.side == form.side % 2 == 0  # elsewhere the published code pads by other values
    for rows in (1, 200):
        x = torch.randn(rows, n, dtype=torch.float64)
        torch.testing.assert_close(model["layer"](x) - model["layer"].base(x), published(x, form.M, out))


@pytest.mark.parametrize("kind", ["rotation", "sharing", "summed"])
@pytest.mark.parametrize(("n", "out", "rank"), [(7, 20, 1), (20, 7, 2), (13, 10, 3), (20, 20, 1)])
def test_products_matrix_and_rank_agree_for_any_sides(kind, n, out, rank, shake):
    model = nn.ModuleDict({"layer": nn.Linear(n, out, dtype=torch.float64)})
    adapter = lowrank.attach(model, "mora-square", rank=rank, options={"kind": kind})
    shake(adapter)
    form, base = adapter.forms["layer"], model["layer"].base
    delta = form.delta(base.weight)
    assert torch.linalg.matrix_rank(delta, rtol=1e-9) == form.rank_bound()
    for rows in (1, 200):
        x = torch.randn(rows, n, dtype=torch.float64)
        torch.testing.assert_close(model["layer"](x), base(x) + x @ delta.T)
    assert delta.abs().amax(0).min() > 0  # every input counts


@pytest.mark.parametrize(("method", "options"), [("mora-square", {"kind": "summed"}), ("losia", {"relocations": 0})])
def test_a_folder_that_names_no_option_means_the_earlier_default(method, options, tower, shake, tmp_path):
    model, x = tower(), torch.ones(2, 6)
    adapter = lowrank.attach(model, method, rank=2, targets=["wide"], options=options)
    shake(adapter)
    adapter.save(tmp_path)
    about = json.loads((tmp_path / "lorank.json").read_text())
    assert about["settings"]["options"] == options
    about["settings"]["options"] = {}
    (tmp_path / "lorank.json").write_text(json.dumps(about))
    fresh = tower()
    lowrank.load(fresh, tmp_path)
    torch.testing.assert_close(fresh(x), model(x))
    now = lowrank.attach(tower(), method, rank=2, targets=["wide"])
    now.save(tmp_path / "now")
    assert json.loads((tmp_path / "now" / "lorank.json").read_text())["settings"]["options"] not in ({}, options)
    lowrank.load(tower(), tmp_path / "now")


def test_an_unknown_kind_is_refused(tower):
    with pytest.raises(UsageError, match="rotation"):
        lowrank.attach(tower(), "mora-square", options={"kind": "rotations"})
