"""Bytes of optimizer state by formula, to the byte, on LLaMA's shapes of the GaLore paper (no memory: device meta)."""

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.lowrank.projected.inner.low_bit import SLICE, AdamW4bit, AdamW8bit, value_map

SHAPES = {  # hidden, intermediate, layers, GaLore's rank
    "60m": (512, 1376, 8, 128),
    "1b": (2048, 5461, 24, 512),
    "7b": (4096, 11008, 32, 1024),
}
VOCABULARY = 32000


def llama(size):
    """The parameters of a LLaMA in bfloat16: matrices to project, and embeddings, head and norms."""
    hidden, inner, layers, rank = SHAPES[size]

    def empty(*shape):
        return nn.Parameter(torch.empty(shape, device="meta", dtype=torch.bfloat16))

    attention = [empty(hidden, hidden) for _ in range(4)]
    mlp = [empty(inner, hidden), empty(inner, hidden), empty(hidden, inner)]
    matrices = [p for _ in range(layers) for p in (*attention, *mlp)]
    return (
        [attention, mlp],
        [empty(VOCABULARY, hidden), empty(VOCABULARY, hidden), empty(hidden)],
        matrices,
        layers,
        rank,
    )


def count(size, name, **options):
    """The state's bytes of one layer's matrices times the layers, and of what steps plainly."""
    groups, others, _, layers, rank = llama(size)
    matrices = [p for group in groups for p in group]
    parameters = [{"params": matrices, "rank": rank}, {"params": others, "rank": None}]
    optimizer = lowrank.optimizer(name, parameters, lr=0.1, **options)
    for parameter in [*matrices, *others]:
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()

    def size_of(parameters):
        return sum(v.numel() * v.element_size() for p in parameters for v in optimizer.state[p].values() if v.dim() > 0)

    norms = size_of(others[2:]) * (2 * layers + 1)
    return layers * size_of(matrices) + size_of(others[:2]) + norms


def parameters_of(size):
    hidden, inner, layers, _ = SHAPES[size]
    return layers * (4 * hidden**2 + 3 * hidden * inner) + 2 * VOCABULARY * hidden + (2 * layers + 1) * hidden


def split(size):
    """Values of P, of the projected moments, and of plain moments."""
    hidden, inner, layers, r = SHAPES[size]
    basis = layers * 7 * hidden * r
    moments = layers * 2 * r * (4 * hidden + 3 * inner)
    plain = 2 * (2 * VOCABULARY * hidden + (2 * layers + 1) * hidden)
    return basis, moments, plain


@pytest.mark.parametrize("size", SHAPES)
def test_galores_state_is_that_of_the_formula(size):
    basis, moments, plain = split(size)
    assert count(size, "galore") == 2 * (basis + moments + plain)


def test_the_published_reductions():
    adamw = 2 * 2 * parameters_of("7b")
    basis, moments, plain = split("7b")
    assert 1 - 2 * (basis + moments + plain) / adamw == pytest.approx(0.651, abs=5e-4)  # published: up to 65.5%
    everything_in_8_bits = 1 - (basis + moments + plain) / adamw
    assert everything_in_8_bits == pytest.approx(0.8255, abs=5e-4)  # published: up to 82.5%


def scales(values, block=256):
    return 4 * values // block


def test_8_bit_moments():
    pytest.importorskip("torchao.optim", reason="torchao is not installed")
    basis, moments, plain = split("7b")
    codes = moments + plain
    expected = 2 * basis + codes + scales(codes)
    assert count("7b", "galore", inner="adamw8bit") == expected
    assert 1 - expected / (4 * parameters_of("7b")) == pytest.approx(0.788, abs=1e-3)
    four = basis // 2 + 2 * 2 * basis // 256
    found = count("7b", "galore", inner="adamw8bit", projector="int4")
    assert found == four + codes + scales(codes)
    assert 1 - found / (4 * parameters_of("7b")) > 0.825


@pytest.mark.parametrize(("name", "kept"), [("fira", 1), ("dct-galore", 0), ("apollo", 1), ("flora-compressor", 0)])
def test_what_other_optimizers_keep(name, kept):
    hidden, inner, layers, r = SHAPES["60m"]
    _, moments, plain = split("60m")
    found = count("60m", name)
    if name == "fira":
        assert found == count("60m", "galore") + layers * 7 * 4
    if name == "dct-galore":
        assert found == 2 * (moments + plain) + layers * 7 * r * 4
    if name == "apollo":
        assert found == 2 * (moments + plain) + layers * 7 * 4
    if name == "flora-compressor":
        sides = layers * (4 * 2 * hidden + 3 * (hidden + inner)) + 2 * (VOCABULARY + hidden)
        whole = 2 * (2 * layers + 1) * hidden * 4 // 2  # vectors keep their whole square, in float32
        first = plain // 2
        assert found == moments // 2 * 2 + first * 2 + sides * 4 + whole


def test_weight_normalised_8_bit_projection_saves_what_is_published():
    """GradNormLoRP: 89.5% less optimizer memory than 16-bit Adam, with 8-bit moments (rank a quarter: less)."""
    pytest.importorskip("torchao.optim", reason="torchao is not installed")
    hidden, inner, layers, _ = SHAPES["7b"]
    groups, others, *_ = llama("7b")
    matrices = [p for group in groups for p in group]
    r = 256
    parameters = [{"params": matrices, "rank": r}, {"params": others, "rank": None}]
    optimizer = lowrank.optimizer("gradnormlorp", parameters, lr=0.1, inner="adamw8bit")
    for parameter in [*matrices, *others]:
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    one = sum(v.numel() * v.element_size() for p in matrices for v in optimizer.state[p].values() if v.dim() > 0)
    codes = 2 * r * (4 * hidden + 3 * inner)
    assert one == codes + scales(codes) + 2 * 7 * hidden * r + 2 * 2 * (6 * hidden + inner)
    dense = 4 * layers * (4 * hidden**2 + 3 * hidden * inner)
    assert 1 - layers * one / dense > 0.895


def test_moments_that_are_coded_slice_by_slice_have_the_codes_of_the_whole():
    quant_utils = pytest.importorskip("torchao.optim.quant_utils", reason="torchao is not installed")
    value = torch.randn(3 * SLICE // 2 + 100, generator=torch.Generator().manual_seed(0))
    for rule in (AdamW8bit(), AdamW4bit()):
        state = {}
        rule.write(state, "exp_avg", value)
        padded = torch.nn.functional.pad(value, (0, -len(value) % rule.block))
        scaled, scale = quant_utils.scale_tensor(padded, rule.block)
        quantise = getattr(quant_utils, f"quantize_{rule.bits}bit_with_qmap")
        codes = quantise(scaled, value_map(rule.bits, True, value.device)).flatten()
        found = state["exp_avg_codes"]
        own = found if rule.bits == 8 else torch.stack([found >> 4, found & 15], 1).flatten()
        assert torch.equal(own, codes)
        torch.testing.assert_close(state["exp_avg_scale"], scale)


def test_a_second_moment_that_is_small_in_its_block_is_not_read_as_zero():
    """With a code for 0 the last step would be divided by its own tiny gradient alone, thousands of rates long.

    Adam's own bound is (1 - b1) / sqrt(1 - b2) rates.
    """
    pytest.importorskip("torchao.optim", reason="torchao is not installed")
    weight = torch.nn.Parameter(torch.zeros(64, 64))
    optimizer = lowrank.optimizer("adamw8bit", [weight], lr=1.0)
    small = torch.arange(64 * 64).view(64, 64) % 256 > 0  # each block of 256 values has one that is large
    for size in [1e-4] * 10 + [1e-8]:
        before = weight.detach().clone()
        weight.grad = torch.where(small, torch.tensor(size), torch.tensor(1.0))
        optimizer.step()
        assert (weight - before).abs().max() < (1 - 0.9) / (1 - 0.999) ** 0.5
