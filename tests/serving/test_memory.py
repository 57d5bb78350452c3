"""Pages, who is in memory, and the products that read pages: properties over any sequence of use."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank.errors import UsageError
from lorank.serving.forward.lru import LRU, NoRoom
from lorank.serving.forward.page_pool import Full, PagePool, page_width
from lorank.serving.forward.products import FOLDED_FROM, PRODUCTS, Stack, add_updates, multiply_folded, worth_folding
from lorank.serving.forward.segments import Current, Runs, Segments, Unmixable


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 6)), max_size=30))
def test_pages_are_never_given_twice_nor_lost(steps):
    pool, taken = PagePool(limit=20 * 4 * 4, width=4), []
    for whole, count in steps:
        before = pool.free
        try:
            pages = (pool.take_run if whole else pool.take)(count)
        except Full:
            assert pool.free == before
            if taken:
                pool.give(taken.pop(0))
            continue
        assert len(pages) == count
        assert not whole or (np.diff(pages) == 1).all()
        taken.append(pages)
        everything = np.concatenate(taken)
        assert len(set(everything.tolist())) == len(everything) == pool.capacity - pool.free
        assert 0 not in everything
        assert pool.used_bytes <= 20 * 4 * 4


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(7.0),
        torch.arange(5),
        torch.tensor([True, False]),
        torch.randn(3, 4, dtype=torch.float64),
        torch.randn(2, 3).bfloat16(),
        torch.zeros(0, 4),
    ],
)
def test_a_tensor_of_any_dtype_lives_in_pages(tensor):
    pool = PagePool(limit=4096, width=4)
    before = pool.free
    home = pool.hold(tensor)
    assert torch.equal(home, tensor)
    assert home.dtype == tensor.dtype
    pool.release([home])
    assert pool.free == before


def test_pools_and_pages_of_impossible_sizes_are_refused():
    with pytest.raises(UsageError, match="even"):
        PagePool(1000, 3)
    with pytest.raises(UsageError, match="raise it"):
        PagePool(8, 4)
    assert page_width([32, 48, 1]) == 16
    assert page_width([31, 31]) == 32


KEYS = st.integers(0, 7)


@settings(max_examples=80, deadline=None)
@given(st.sets(KEYS, max_size=2), st.lists(KEYS, min_size=1, max_size=60), st.integers(3, 6))
def test_the_least_recently_used_leaves_and_pinned_ones_stay(pinned, uses, room):
    held, gone = set(), []

    def load(key):
        if len(held) >= room:
            raise Full
        held.add(key)
        return key

    def unload(key):
        held.remove(key)
        gone.append(key)

    lru = LRU(unload=unload, pinned=set(pinned))
    order = []
    for key in uses:
        left = len(gone)
        expected = next((k for k in order if k not in pinned), None)
        full = key not in order and len(order) == room
        assert lru.get(key, lambda key=key: load(key)) == key
        if full:
            assert gone[left:] == [expected]
            order.remove(expected)
        else:
            assert len(gone) == left
        order = [k for k in order if k != key] + [key]
        assert lru.keys() == order
        assert held == set(order)
        assert len(held) <= room
    assert not set(gone) & pinned
    counts = lru.counts
    assert counts.hits + counts.loads == len(uses)
    assert counts.evictions == len(gone)


def test_what_is_in_use_does_not_leave():
    def full():
        raise Full

    lru = LRU(unload=lambda thing: None)
    lru.get("a", lambda: 1)
    with lru.use("a"), pytest.raises(NoRoom, match="'b'"):
        lru.get("b", full)
    assert "a" in lru
    with pytest.raises(NoRoom, match="nothing else"):
        lru.get("b", full)
    assert "a" not in lru


def product_case(lengths, parts, rank, seed=0):
    generator = torch.Generator().manual_seed(seed)
    width, out, count = 6, 5, len(lengths)
    x = torch.randn(sum(lengths), width, generator=generator, dtype=torch.float64)
    y = torch.randn(sum(lengths), parts * out, generator=generator, dtype=torch.float64)
    stack = Stack(
        torch.randn(count, parts * rank, width, generator=generator, dtype=torch.float64),
        torch.randn(count, parts * rank, out, generator=generator, dtype=torch.float64),
        parts,
    )
    runs = Runs(tuple(np.concatenate([[0], np.cumsum(lengths)]).tolist()))
    updates = []
    for i, lines in enumerate(x.split(lengths)):
        own = [lines @ stack.A[i, stack.lines(p)].T @ stack.Bt[i, stack.lines(p)] for p in range(parts)]
        updates.append(torch.cat(own, 1))
    return x, y, stack, runs, torch.cat(updates)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(1, 3), st.integers(0, 3))
def test_every_product_adds_each_runs_own_update(lengths, parts, rank):
    x, y, stack, runs, update = product_case(lengths, parts, rank)
    for name, product in {**PRODUCTS, "chosen": add_updates}.items():
        if (name == "even" and not runs.even) or (rank == 0 and name != "chosen"):
            continue
        got = y.clone()
        product(x, got, stack, runs)
        torch.testing.assert_close(got, y + update)
    weight, bias = torch.randn(y.shape[1], x.shape[1], dtype=torch.float64), torch.randn(y.shape[1]).double()
    for b in (bias, None):
        expected = torch.nn.functional.linear(x, weight, b) + update
        torch.testing.assert_close(multiply_folded(x, weight, b, stack, runs), expected)


def test_lines_behind_the_runs_are_left_alone():
    x, y, stack, runs, _ = product_case([2, 3, 4], 1, 2)
    for lines in (x, x.float()):
        got = y.to(lines.dtype).clone()
        add_updates(lines, got, Stack(stack.A[:2].to(lines), stack.Bt[:2].to(lines), 1), runs.first(2))
        assert torch.equal(got[5:], y[5:].to(lines.dtype))
        assert not torch.equal(got[:5], y[:5].to(lines.dtype))


def test_only_long_runs_in_full_precision_are_folded():
    assert worth_folding(Runs((0, FOLDED_FROM)), torch.float32)
    assert not worth_folding(Runs((0, FOLDED_FROM)), torch.bfloat16)
    assert not worth_folding(Runs((0, FOLDED_FROM, FOLDED_FROM + 1)), torch.float32)


def test_a_layer_that_cannot_be_told_apart_is_an_error():
    segments = Segments.of_padded([2, 1], longest=4)
    assert segments.at(12).bounds == (0, 8, 12)
    with pytest.raises(Unmixable, match="7 lines"):
        segments.at(7)
    current = Current()
    with current.batch(["a", "b"], 0, None, segments):
        with current.alone(1):
            assert current.runs(7).bounds == (0, 7)
        assert current.runs(3).bounds == (0, 2, 3)
    assert current.members == ()
