"""The queue by simulation, without a clock: order, shares, and the bounds on waiting that fair queueing promises."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank.serving.requests.engine import Job
from lorank.serving.requests.queue import SLICES, PendingList, Queue

costs_of_lists = st.lists(st.integers(1, 50), min_size=1, max_size=30)
some_lists = st.lists(st.tuples(st.sampled_from("abc"), costs_of_lists), max_size=12)


def pending(caller, costs):
    return PendingList(caller, Job(None, "q", ["d"] * len(costs)), np.array(costs, np.int64), float("inf"))


def spent(batch):
    """The tokens of a batch by tenant."""
    found = {}
    for request, place in batch.items():
        found[request.caller] = found.get(request.caller, 0) + request.cost(*place)
    return found


@given(some_lists, st.integers(1, 200))
@settings(max_examples=80, deadline=None)
def test_every_document_is_taken_once_in_order_whoever_comes_meanwhile(lists, cost):
    queue, taken = Queue(), {}
    newcomers = [pending(caller, costs) for caller, costs in lists]
    while queue.count or newcomers:
        if newcomers:
            taken[newcomers[-1]] = []
            queue.add(newcomers.pop())
        batch = queue.take(cost)
        assert batch
        for request, place in batch.items():
            taken[request].append(place)
        assert sum(spent(batch).values()) < cost + 50  # the last document may run over
    for request, ranges in taken.items():
        assert ranges[0][0] == 0
        assert ranges[-1][1] == len(request.costs)
        assert all(one[1] == other[0] for one, other in pairwise(ranges))
    assert queue.count == queue.shorts == queue.of("a") == 0
    assert not list(queue)


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 4000), st.integers(1, 40)), min_size=1, max_size=40),
    st.integers(16, 2000),
    st.integers(0, 30),
    st.integers(1, 4000),
)
@settings(max_examples=150, deadline=None)
def test_a_newcomer_waits_for_one_slice_of_each_other_tenant_at_most(lists, cost, batches, own):
    """The bound, in tokens: a slice of each other tenant, or a document where that is larger, and its own batch."""
    queue = Queue()
    for caller, document, count in lists:
        queue.add(pending(caller, [document] * count))
    for _ in range(batches):
        queue.take(cost)
    largest = {}
    for request in queue:
        largest[request.caller] = max(largest.get(request.caller, 0), int(request.costs.max()))
    queue.add(newcomer := pending("newcomer", [own]))
    before = 0
    while not newcomer.at:
        before += sum(request.cost(*place) for request, place in queue.take(cost).items() if request is not newcomer)
    slice_ = -(-cost // SLICES)
    assert before <= sum(max(slice_, one) for one in largest.values()) + cost + max(largest.values(), default=0)


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(5, 3000), min_size=2),
    st.integers(16, 2000),
    st.integers(1, 60),
)
@settings(max_examples=150, deadline=None)
def test_tenants_that_always_wait_get_the_same_to_one_slice_each(documents, cost, batches):
    queue, had = Queue(), dict.fromkeys(documents, 0)
    for caller, document in documents.items():
        for _ in range(1 + (caller == "a")):
            queue.add(pending(caller, [document] * (10 + 130_000 // document)))
    for _ in range(batches):
        for caller, tokens in spent(queue.take(cost)).items():
            had[caller] += tokens
    slice_ = -(-cost // SLICES)
    for one, other in pairwise(documents):
        assert abs(had[one] - had[other]) <= max(slice_, documents[one]) + max(slice_, documents[other])


@given(st.integers(2, 40), st.integers(1, 20), st.integers(0, 10))
@settings(max_examples=60, deadline=None)
def test_every_tenant_has_a_share_of_every_batch_where_its_documents_fit(tenants, document, batches):
    queue, cost = Queue(), 2 * tenants * document
    for tenant in range(tenants):
        for _ in range(1 + 5 * (tenant == 0)):  # the first floods
            queue.add(pending(f"t{tenant}", [document] * 1000))
    for _ in range(1 + batches):
        assert len(spent(queue.take(cost))) == tenants


@pytest.mark.parametrize("document", [10, 999, 1200, 50_000, 10**6])
def test_a_short_list_is_scored_at_once_beside_documents_that_cost_more_than_a_batch(document):
    queue = Queue()
    queue.add(pending("heavy", [document] * 1000))
    queue.take(1000)  # it has had a whole batch
    for turn in range(50):
        queue.add(short := pending("quiet", [10]))
        assert queue.take(1000).get(short) == (0, 1), turn


def test_leaving_and_coming_back_pays_no_debt():
    """A tenant that sends one costly document at a time gets no more than one with a long list."""
    queue, had = Queue(), {"heavy": 0, "steady": 0}
    queue.add(pending("steady", [10] * 100_000))
    for _ in range(400):
        if not queue.of("heavy"):
            queue.add(pending("heavy", [5000]))
        for caller, tokens in spent(queue.take(1000)).items():
            had[caller] += tokens
    assert abs(had["heavy"] - had["steady"]) <= 5000 + 2 * 1000


def test_a_tenant_s_long_list_leaves_its_short_ones_seven_eighths_and_is_never_starved():
    queue, long = Queue(), pending("one", [10] * 10_000)
    queue.add(long)
    while not long.is_long:
        queue.take(100)
    for _ in range(200):
        queue.add(pending("one", [10] * 8))
    before, tokens = long.had, 0
    for _ in range(80):
        tokens += sum(spent(queue.take(100)).values())
    share = (long.had - before) / tokens
    assert 0.09 < share < 0.16


def test_where_only_long_lists_wait_batches_are_half_as_large():
    queue, long = Queue(), pending("one", [10] * 1000)
    queue.add(long)
    assert queue.take(100)[long] == (0, 10)
    before = long.had
    queue.take(100)
    assert 50 <= long.had - before <= 70


def test_the_turns_of_a_tenant_in_one_batch_go_to_one_list_and_its_lists_take_turns_by_batches():
    queue = Queue()
    flood = [pending("flood", [10] * 100) for _ in range(5)]
    for request in (*flood, pending("quiet", [10] * 1000)):
        queue.add(request)
    batches = [queue.take(80) for _ in range(5)]
    firsts = [[request for request in batch if request.caller == "flood"] for batch in batches]
    assert all(len(batch) == 2 for batch in batches)
    assert [one for (one,) in firsts] == flood


def test_turns_go_to_tenants_first_then_to_their_lists():
    queue = Queue()
    busy = [pending("busy", [1] * 10) for _ in range(5)]
    quiet = pending("quiet", [1] * 10)
    for request in (*busy, quiet):
        queue.add(request)
    batch = queue.take(40)
    assert batch[quiet] == (0, 10)
    assert [request in batch for request in busy] == [True, True, True, False, False]


def test_what_is_ahead_of_a_newcomer_is_its_own_tenant_s_and_fair_shares_of_the_others():
    queue = Queue()
    for _ in range(100):
        queue.add(pending("flood", [1000] * 10))
    assert queue.ahead_of("quiet", 300) == 0
    assert queue.ahead_of("flood", 300) == 100 * 300
    queue.add(pending("quiet", [100] * 2))
    assert queue.ahead_of("quiet", 300) == 200 + 200
    assert queue.ahead_of("flood", 300) == 100 * 300 + 200


def test_the_newest_list_of_the_heaviest_tenant_makes_room():
    queue = Queue()
    flood = [pending("flood", [1] * 10) for _ in range(5)]
    for at, request in enumerate((*flood, pending("mild", [1]), pending("mild", [1]))):
        request.added = float(at)
        queue.add(request)
    assert queue.newest_of_heaviest("quiet") is flood[-1]
    assert queue.newest_of_heaviest("mild") is flood[-1]
    assert queue.newest_of_heaviest("flood") is None
    assert Queue().newest_of_heaviest("quiet") is None
