"""What holds for every registered way of aggregating."""

import pytest
import torch

from lorank.errors import UsageError
from lorank.federated import AGGREGATORS, Aggregator, Upload, make_aggregator
from lorank.federated.messages import pack, packed_names, packed_payload, payload_bytes, unpack
from tiny_federations import Peer, uploads

NAMES = sorted(AGGREGATORS)
every = pytest.mark.parametrize("name", NAMES)
START = {"lora-sb": {"start": "zero"}}


def peers(aggregator: Aggregator, count: int = 3, head=()) -> list[Peer]:
    name = aggregator.adapter
    form = "lora-core" if name == "lora-sb" else name
    return [Peer(form, seed=i, head=head).shake(i) for i in range(count)]


@every
def test_a_message_is_what_was_picked_bit_for_bit_and_its_bytes_are_those_of_its_file(name: str) -> None:
    aggregator = make_aggregator(name)
    for peer in peers(aggregator, head=["3"]):
        message = aggregator.pick(peer.state, peer.layout)
        data = pack(message)
        again = unpack(data)
        assert again.keys() == message.keys()
        assert all(torch.equal(again[key], message[key]) for key in message)
        assert packed_payload(data) == payload_bytes(message)
        assert packed_names(data) == sorted(message)


@every
def test_nothing_but_trained_tensors_leaves_a_client(name: str) -> None:
    aggregator = make_aggregator(name)
    peer = peers(aggregator, 1, head=["3"])[0]
    allowed = peer.layout.trained | peer.layout.heads
    for key in aggregator.pick(peer.state, peer.layout):
        stem, _, tensor = key.rpartition(".")
        assert key in allowed or (f"{stem}.scores" in allowed and tensor.startswith("order"))


@every
def test_equal_clients_aggregate_to_what_they_are(name: str) -> None:
    aggregator = make_aggregator(name)
    same = [Peer("lora-core" if aggregator.adapter == "lora-sb" else aggregator.adapter).shake(4) for _ in range(3)]
    last = aggregator.pick(Peer(same[0].adapter.settings.method).state, same[0].layout)
    message = aggregator.aggregate(uploads(aggregator, same), last)
    for peer in same:
        before = peer.deltas()
        peer.adapter.load_state(aggregator.install(peer.state, message, peer.layout))
        for path, delta in peer.deltas().items():
            torch.testing.assert_close(delta, before[path], atol=1e-5, rtol=1e-5)


@every
def test_the_order_of_the_clients_does_not_matter(name: str) -> None:
    aggregator = make_aggregator(name)
    sent = uploads(aggregator, peers(aggregator), [1.0, 2.0, 3.0])
    last = {key: torch.zeros_like(tensor) for key, tensor in sent["client0"].tensors.items()}
    one = make_aggregator(name).aggregate(sent, last)
    other = make_aggregator(name).aggregate(dict(reversed(sent.items())), last)
    assert one.keys() == other.keys()
    for key in one:
        if "residual" not in key:
            torch.testing.assert_close(one[key], other[key])


@every
def test_a_client_that_is_missing_in_a_round_is_no_error(name: str) -> None:
    aggregator = make_aggregator(name)
    sent = uploads(aggregator, peers(aggregator))
    last = aggregator.aggregate(sent, {key: torch.zeros_like(t) for key, t in sent["client0"].tensors.items()})
    last = {key: tensor for key, tensor in last.items() if "residual" not in key}
    del sent["client1"]
    message = aggregator.aggregate(sent, last)
    assert set(last) <= set(message)
    assert aggregator.reply(message, "client1", None)


@every
def test_what_a_server_remembers_survives(name: str) -> None:
    aggregator, again = make_aggregator(name), make_aggregator(name)
    sent = uploads(aggregator, peers(aggregator))
    last = {key: torch.zeros_like(tensor) for key, tensor in sent["client0"].tensors.items()}
    for _ in range(3):
        aggregator.aggregate(sent, last)
    again.load_memory(unpack(pack(aggregator.memory()))) if aggregator.memory() else None
    one, other = (each.aggregate(sent, last) for each in (aggregator, again))
    for client in sent:
        ours, theirs = (
            each.reply(message, client, sent[client].tensors) for each, message in ((aggregator, one), (again, other))
        )
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_wrong_names_options_and_adapters_are_named() -> None:
    with pytest.raises(UsageError, match="did you mean 'fedex-lora'"):
        make_aggregator("fedex-lor")
    with pytest.raises(UsageError, match="did you mean 'beta'"):
        make_aggregator("fair-equal-collaboration", bta=3)
    with pytest.raises(UsageError, match="--adapter lora-sb"):
        make_aggregator("fed-sb").check(Peer("lora").layout)
    with pytest.raises(UsageError, match="--adapter edge-popup"):
        make_aggregator("frl").check(Peer("lora").layout)
    with pytest.raises(UsageError, match="shares the factor A"):
        make_aggregator("fedsa-lora").check(Peer("lora-core").layout)


def test_clients_of_unlike_ranks_are_refused_where_a_mean_is_taken() -> None:
    aggregator = make_aggregator("mean")
    sent = uploads(aggregator, [Peer(rank=2), Peer(rank=3)])
    with pytest.raises(Exception, match="train all with the same adapter and rank"):
        aggregator.aggregate(sent, {})


def test_an_upload_weighs_one_where_nothing_is_said() -> None:
    assert Upload({}).weight == 1.0  # exact: a default, copied
