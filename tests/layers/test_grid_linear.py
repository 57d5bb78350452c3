"""Grids of floating-point numbers: levels, scales, the low-rank part, and inputs in FP8."""

import pytest
import torch
from torch import nn

from lorank.errors import UsageError
from lorank.layers.grid_linear import GRIDS, GridLinear, choose_scales, round_rows, round_to_grid
from lorank.lowrank import factorize


@pytest.fixture(params=[0, 1])
def weight(request):
    """A weight whose groups of 16 have scales apart."""
    generator = torch.Generator().manual_seed(request.param)
    return torch.randn(24, 48, generator=generator) * torch.tensor([1.0, 0.2, 0.03]).repeat_interleave(16)


@pytest.mark.parametrize("grid", sorted(GRIDS))
@pytest.mark.parametrize("method", ["m1", "m2"])
def test_values_of_the_grid_come_back_as_they_are(grid, method):
    levels = GRIDS[grid].values
    matrix = torch.cat([levels, -levels]).repeat(3, 1)
    assert torch.equal(round_to_grid(matrix, grid), matrix)
    layer = GridLinear.of(matrix, None, grid, group=matrix.shape[1], method=method)
    torch.testing.assert_close(layer.weight, matrix, rtol=0, atol=0)


def test_the_levels_are_those_of_the_formats():
    assert GRIDS["fp4"].levels == (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # exact: the definition of E2M1
    assert len(GRIDS["fp8"].levels) == 127
    assert max(GRIDS["fp8"].levels) == 448.0  # exact: the largest number of E4M3


@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_scales_are_powers_of_two_and_nothing_is_cut_off(grid, weight):
    for method in ("m1", "m2"):
        scales = choose_scales(weight, grid, 16, method)
        shifts = torch.exp2(scales.exponents.float())
        assert torch.equal(shifts.log2().round(), shifts.log2())
        layer = GridLinear.of(weight, None, grid, 16, method)
        ratio = weight.abs().reshape(24, 3, 16).amax(-1) / (scales.row[:, None] * shifts) / GRIDS[grid].levels[-1]
        assert float(ratio.max()) <= 1 + 1e-5
        assert float(ratio.min()) > 0.5 - 1e-5
        assert float((layer.weight - weight).abs().max()) <= float(weight.abs().max()) / 6 + 1e-6
    assert torch.equal(choose_scales(weight, grid, 16, "m1").row, torch.ones(24))


def test_m2_errs_no_more_than_m1(weight):
    errors = [float((GridLinear.of(weight, None, "fp4", 16, m).weight - weight).norm()) for m in ("m1", "m2")]
    assert errors[1] <= errors[0]


def test_the_low_rank_part_takes_the_error_back_step_by_step(weight):
    lost = []
    for rank in (1, 4, 12, 24):
        model = nn.Sequential(nn.Linear(48, 24))
        model[0].weight = nn.Parameter(weight.clone())
        factorize(model, "zeroquant-fp", rank=rank)
        lost.append(float((model[0].weight - weight).norm().detach()))
    assert lost == sorted(lost, reverse=True)
    assert lost[-1] < 1e-5 < lost[0]


def test_inputs_are_rounded_row_by_row_and_codes_are_two_a_byte(weight):
    x = torch.randn(5, 48, generator=torch.Generator().manual_seed(3))
    assert float(((round_rows(x) - x).abs() / x.abs().amax(1, keepdim=True)).max()) < 1 / 28
    layer = GridLinear.of(weight, torch.ones(24), "fp4", 16, round_inputs=True)
    assert layer.codes.shape == (24, 24)
    torch.testing.assert_close(layer(x), round_rows(x) @ layer.weight.t() + 1, rtol=1e-5, atol=1e-5)
    odd = GridLinear.of(weight[:, :47], None, "fp4", 16)
    assert odd.weight.shape == (24, 47)


@pytest.mark.parametrize("values", [{"grid": "fp5"}, {"rank": 25}, {"group": 0}])
def test_what_is_out_of_range_is_refused(values):
    with pytest.raises(UsageError):
        GridLinear(48, 24, **({"rank": 2} | values))
    with pytest.raises(UsageError, match="m1, m2"):
        choose_scales(torch.ones(2, 2), "fp4", 2, "m3")
