"""What each way of aggregating is for: exact means, what stays local, bytes by formula, bounded voters."""

import itertools
import math
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank import lowrank, ranking
from lorank.errors import LorankError
from lorank.federated import Upload, make_aggregator
from lorank.federated.aggregators.fair_equal_collaboration import contributions
from lorank.federated.aggregators.frl import borda_points, pack_order, unpack_order
from lorank.federated.messages import pack, packed_names, payload_bytes
from lorank.federated.robust import bound_updates
from lorank.federated.server import Server
from lorank.lowrank.algebra.factors import dense_update
from tiny_federations import Peer, one_round, uploads

WEIGHTS = [1.0, 2.5, 4.0]
SHARES = np.array(WEIGHTS) / sum(WEIGHTS)


def mean_of_deltas(peers: list[Peer], shares) -> dict[str, torch.Tensor]:
    return {
        path: sum(share * peer.deltas()[path].double() for share, peer in zip(shares, peers, strict=True))
        for path in peers[0].deltas()
    }


# fedex-lora


@pytest.mark.parametrize("scaling", ["lora", "rslora"])
def test_fedex_lora_is_the_mean_of_the_full_updates(scaling: str) -> None:
    peers = [Peer("lora", alpha=5.0, scaling=scaling).shake(i) for i in range(3)]
    aggregator = make_aggregator("fedex-lora")
    message = aggregator.aggregate(uploads(aggregator, peers, WEIGHTS), {})
    wanted = mean_of_deltas(peers, SHARES)
    peer = peers[0]
    peer.adapter.load_state(aggregator.install(peer.state, message, peer.layout))
    residual = aggregator.residual(message, peer.layout)
    for path, delta in peer.deltas().items():
        whole = delta.double() + dense_update(residual[path]).double()
        scale = wanted[path].abs().max()
        torch.testing.assert_close(whole / scale, wanted[path] / scale, atol=1e-6, rtol=0)
        assert residual[path].A.shape[0] <= (len(peers) - 1) * peer.adapter.forms[path].rank


def test_fedex_lora_of_one_client_has_no_residual_and_the_mean_of_factors_is_not_exact() -> None:
    aggregator = make_aggregator("fedex-lora")
    alone = [Peer().shake(1)]
    message = aggregator.aggregate(uploads(aggregator, alone), {})
    assert aggregator.residual(message, alone[0].layout) == {}
    peers = [Peer().shake(i) for i in range(3)]
    wanted = mean_of_deltas(peers, [1 / 3] * 3)
    means = make_aggregator("mean")
    peers[0].adapter.load_state(
        means.install(peers[0].state, means.aggregate(uploads(means, peers), {}), peers[0].layout)
    )
    assert max((peers[0].deltas()[path] - wanted[path]).abs().max().item() for path in wanted) > 0.1


def test_fedex_lora_sends_so_many_bytes() -> None:
    peers, r = [Peer(rank=3).shake(i) for i in range(3)], 3
    aggregator = make_aggregator("fedex-lora")
    sent = uploads(aggregator, peers)
    sides = (12 + 10) + (10 + 8)
    assert payload_bytes(sent["client0"].tensors) == 4 * r * sides
    assert payload_bytes(aggregator.aggregate(sent, {})) == 4 * len(peers) * r * sides


# fedsa-lora


@pytest.mark.parametrize(("method", "options", "shared"), [("lora", {}, "A"), ("rslora", {}, "A"), ("vera", {}, "d")])
def test_fedsa_lora_sends_no_b_and_no_head(method: str, options: dict, shared: str) -> None:
    aggregator = make_aggregator("fedsa-lora")
    peer = Peer(method, head=["3"], **options).shake(1)
    aggregator.check(peer.layout)
    message = aggregator.pick(peer.state, peer.layout)
    assert sorted(message) == [f"0.{shared}", f"2.{shared}"]
    assert payload_bytes(message) == 4 * 3 * (12 + 10 if shared == "A" else 2)
    before = peer.state
    other = Peer(method, head=["3"], **options).shake(2)
    made = aggregator.aggregate(uploads(aggregator, [peer, other]), {})
    after = aggregator.install(before, made, peer.layout)
    for name in before:
        if not name.endswith(f".{shared}"):
            assert torch.equal(after[name], before[name])


def test_fedsa_lora_of_equal_clients_is_central_training() -> None:
    aggregator = make_aggregator("fedsa-lora")
    central, clients = Peer(), [Peer() for _ in range(3)]
    last = aggregator.start(clients[0].state, clients[0].layout)
    for _ in range(3):
        central.train(5)
        last = one_round(aggregator, clients, last, steps=5)
    for path, delta in clients[0].deltas().items():
        torch.testing.assert_close(delta, central.deltas()[path], atol=1e-5, rtol=1e-4)


def test_fedsa_lora_serves_unlike_clients_better_than_the_mean() -> None:
    gains = []
    for seed in range(5):
        losses = {}
        for name in ("mean", "fedsa-lora"):
            aggregator = make_aggregator(name)
            clients = [Peer(seed=10 * seed + i, own=2.0) for i in range(3)]
            last = aggregator.start(clients[0].state, clients[0].layout)
            for _ in range(8):
                last = one_round(aggregator, clients, last)
            losses[name] = statistics.mean(client.loss() for client in clients)
        gains.append(losses["mean"] / losses["fedsa-lora"])
    assert statistics.median(gains) > 1.3


# fed-sb


def test_fed_sb_is_the_mean_of_the_updates_and_sends_r_squared_values_whatever_the_number_of_clients() -> None:
    aggregator = make_aggregator("fed-sb")
    for count in (2, 6):
        peers = [Peer("lora-core").shake(i) for i in range(count)]
        sent = uploads(aggregator, peers)
        wanted = mean_of_deltas(peers, [1 / count] * count)
        message = aggregator.aggregate(sent, {})
        assert payload_bytes(message) == payload_bytes(sent["client0"].tensors) == 2 * 4 * 3**2
        assert packed_names(pack(message)) == ["0.R", "2.R"]
        peers[0].adapter.load_state(aggregator.install(peers[0].state, message, peers[0].layout))
        for path, delta in peers[0].deltas().items():
            torch.testing.assert_close(delta.double(), wanted[path], atol=1e-6, rtol=0)


def test_fed_sb_starts_all_clients_at_the_factors_of_the_first() -> None:
    aggregator = make_aggregator("fed-sb")
    first, other = Peer("lora-core"), Peer("lora-core")
    gradient = {path: {"gradient": torch.randn(layer.delta().shape)} for path, layer in first.adapter.layers.items()}
    first.adapter.detach()
    first.adapter = lowrank.attach(
        first.model, "lora-sb", rank=3, targets=["0", "2"], statistics=gradient, start_options={"step": 0.01}
    )
    message = aggregator.start(first.state, first.layout)
    assert {"0.A", "0.B", "0.R"} <= message.keys()
    other.adapter.load_state(aggregator.install(other.state, message, other.layout))
    assert all(torch.equal(delta, first.deltas()[path]) for path, delta in other.deltas().items())


def test_noise_on_fed_sb_is_not_multiplied_as_it_is_on_two_factors() -> None:
    """The update B (R + N) A differs from B R A by B N A, linear in N; (B + N)(A + M) has the product N M besides."""
    ratios = {}
    for name, method in (("fed-sb", "lora-core"), ("mean", "lora")):
        aggregator, peer = make_aggregator(name), Peer(method).shake(3)
        before, state = peer.deltas(), peer.state
        moved = {}
        for scale in (1.0, 10.0):
            generator = torch.Generator().manual_seed(1)
            noisy = {
                key: tensor + scale * torch.randn(tensor.shape, generator=generator)
                for key, tensor in sorted(aggregator.pick(state, peer.layout).items())
            }
            peer.adapter.load_state(aggregator.install(state, noisy, peer.layout))
            moved[scale] = sum((delta - before[path]).norm().item() for path, delta in peer.deltas().items())
        ratios[name] = moved[10.0] / moved[1.0]
    assert ratios["fed-sb"] == pytest.approx(10, rel=1e-3)
    assert ratios["mean"] > 15


# legend-fedft


def test_legend_averages_a_layer_over_its_owners_alone() -> None:
    aggregator = make_aggregator("legend-fedft")
    deep, shallow = Peer().shake(1), Peer().shake(2)
    sent = uploads(aggregator, [deep, shallow], [1.0, 3.0])
    own = {name: tensor for name, tensor in sent["client1"].tensors.items() if name.startswith("2.")}
    sent["client1"] = Upload(own, 3.0)
    message = aggregator.aggregate(sent, {})
    assert torch.equal(message["0.A"], deep.state["0.A"])
    torch.testing.assert_close(message["2.A"], 0.25 * deep.state["2.A"] + 0.75 * shallow.state["2.A"])
    assert sorted(aggregator.reply(message, "client1", own)) == ["2.A", "2.B"]
    nobody = aggregator.aggregate({"client1": sent["client1"]}, message)
    assert torch.equal(nobody["0.A"], message["0.A"])


# frl


@given(st.integers(2, 40), st.integers(1, 6), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_frl_is_the_borda_rule_of_the_consensus(edges: int, voters: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    orders = [torch.from_numpy(rng.permutation(edges)) for _ in range(voters)]
    rankings = [[f"{edge:03d}" for edge in reversed(order.tolist())] for order in orders]
    rule = ranking.aggregate(rankings, "borda")
    points = borda_points(orders)
    assert [rule.scores[f"{edge:03d}"] for edge in range(edges)] == pytest.approx(points.tolist())
    voted = torch.sort(points, stable=True).indices.tolist()
    tiers = [int(name) for tier in reversed(rule.tiers) for name in tier]
    assert voted == tiers


@given(st.integers(1, 300), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_a_vote_takes_n_log_n_bits(edges: int, seed: int) -> None:
    order = torch.from_numpy(np.random.default_rng(seed).permutation(edges))
    packed = pack_order(order)
    assert payload_bytes({"x": packed}) == math.ceil(edges * max(1, math.ceil(math.log2(edges))) / 8)
    assert torch.equal(unpack_order(packed, edges), order)


def test_one_voter_of_frl_moves_an_edge_by_at_most_n() -> None:
    rng = np.random.default_rng(0)
    honest = [torch.from_numpy(rng.permutation(30)) for _ in range(9)]
    for _ in range(20):
        with_one, with_other = (borda_points([*honest, torch.from_numpy(rng.permutation(30))]) for _ in range(2))
        assert (with_one - with_other).abs().max() <= 29


def attacked(name: str, malicious: int, seed: int) -> float:
    """The mean loss of the honest clients after ten rounds of ten clients."""
    aggregator = make_aggregator(name)
    peers = [Peer(aggregator.adapter, seed=20 * seed + i, rank=8) for i in range(10)]
    last = aggregator.start(peers[0].state, peers[0].layout)

    def spoil(sent: dict[str, Upload]) -> dict[str, Upload]:
        bad = [f"client{i}" for i in range(10 - malicious, 10)]
        return {client: Upload(_poison(each, last)) if client in bad else each for client, each in sent.items()}

    def _poison(upload: Upload, last: dict) -> dict:
        made = {}
        for key, tensor in upload.tensors.items():
            if tensor.dtype == torch.uint8:
                order = unpack_order(tensor, int(key.rpartition("order")[2]))
                made[key] = pack_order(order.flip(0))
            else:
                made[key] = last[key] - 20 * (tensor - last[key])
        return made

    for _ in range(10):
        last = one_round(aggregator, peers, last, lr=0.05 if name == "frl" else 0.02, spoil=spoil)
    return statistics.mean(peer.loss() for peer in peers[: 10 - malicious])


@pytest.mark.slow
def test_frl_holds_against_a_fifth_of_malicious_clients_where_the_mean_collapses() -> None:
    untrained = statistics.mean(Peer(seed=i).loss() for i in range(5))
    kept, lost = [], []
    for seed in range(3):
        clean, poisoned = attacked("frl", 0, seed), attacked("frl", 2, seed)
        kept.append((untrained - poisoned) / (untrained - clean))
        lost.append(attacked("mean", 2, seed) / untrained)
    assert statistics.median(kept) > 0.8
    assert statistics.median(lost) > 1.5


def test_bounding_updates_holds_the_mean_against_a_fifth_of_malicious_clients() -> None:
    ratios = []
    for seed in range(3):
        losses = {}
        for bounded in (False, True):
            aggregator = make_aggregator("mean")
            peers = [Peer(seed=20 * seed + i) for i in range(5)]
            last = aggregator.start(peers[0].state, peers[0].layout)

            def spoil(sent, last=last, bounded=bounded):
                state = {"last": last}
                sent["client4"] = Upload(
                    {key: t - 20 * (t - state["last"][key]) for key, t in sent["client4"].tensors.items()}
                )
                return bound_updates(sent, state["last"]) if bounded else sent

            for _ in range(6):
                last = one_round(aggregator, peers, last, spoil=lambda sent, last=last: spoil(sent, last))
            losses[bounded] = statistics.mean(peer.loss() for peer in peers[:4])
        ratios.append(losses[True] / losses[False])
    assert statistics.median(ratios) < 0.7


# fair-equal-collaboration


def fair_shares(rounds: int, seed: int = 0):
    """Three clients: one that helps, one that helps half as much, one that sends noise; their shares by round."""
    aggregator = make_aggregator("fair-equal-collaboration", explore=2)
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(400, generator=generator)
    history = []
    for _ in range(rounds):
        last = {"a": torch.zeros(400)}
        noise = [torch.randn(400, generator=generator) for _ in range(4)]
        sent = {
            "good": Upload({"a": direction + 0.1 * noise[0]}),
            "also": Upload({"a": direction + 0.1 * noise[1]}),
            "half": Upload({"a": direction + 1.5 * noise[2]}),
            "poor": Upload({"a": 0.2 * direction + 1.5 * noise[3]}),
        }
        message = aggregator.aggregate(sent, last)
        history.append({client: aggregator.share(client) for client in sent})
        changed = {
            client: (aggregator.reply(message, client, sent[client].tensors)["a"] == message["a"]).float().mean().item()
            for client in sent
        }
        assert changed == pytest.approx(history[-1], abs=0.01)
    return history


@pytest.mark.parametrize("seed", range(3))
def test_fair_equal_collaboration_rewards_contribution_early_and_all_alike_in_the_end(seed: int) -> None:
    history = fair_shares(400, seed)
    assert all(each == pytest.approx(dict.fromkeys(each, 1.0)) for each in history[:2])
    early, late = history[2], history[-1]
    assert early["good"] > 1.5 * early["poor"]
    assert min(early["good"], early["also"]) > early["half"] > early["poor"]
    gaps = [max(each.values()) - min(each.values()) for each in history[2:]]
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(gaps))
    assert max(late.values()) - min(late.values()) < 0.02


def test_the_contribution_is_the_cosine_with_all_others() -> None:
    last = {"a": torch.zeros(2)}
    sent = {
        "x": Upload({"a": torch.tensor([1.0, 0.0])}, 2.0),
        "y": Upload({"a": torch.tensor([0.0, 1.0])}, 1.0),
        "z": Upload({"a": torch.tensor([1.0, 1.0])}, 1.0),
    }
    found = contributions(sent, last)
    assert found["x"] == pytest.approx(1 / math.sqrt(5))
    assert found["y"] == pytest.approx(1 / math.sqrt(10))
    assert found["z"] == pytest.approx(3 / math.sqrt(10))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: {name: tensor * float("nan") for name, tensor in t.items()},
        lambda t: {name: tensor[:-1] for name, tensor in t.items()},
        lambda t: {f"{name}x": tensor for name, tensor in t.items()},
        lambda t: {name: tensor.double() for name, tensor in t.items()},
        lambda t: {},
    ],
)
@pytest.mark.parametrize("name", ["mean", "fedex-lora", "fed-sb", "fedsa-lora", "frl"])
def test_a_server_leaves_out_what_it_did_not_ask_for(name: str, spoil) -> None:
    aggregator = make_aggregator(name)
    form = {"fed-sb": "lora-core"}.get(name, aggregator.adapter)
    peers = [Peer(form).shake(i) for i in range(3)]
    server = Server(aggregator)
    server.begin(aggregator.start(peers[0].state, peers[0].layout))
    sent = uploads(aggregator, peers)
    if name == "frl":
        spoiled = {key: torch.zeros_like(tensor) for key, tensor in sent["client2"].tensors.items()}
    else:
        spoiled = spoil(sent["client2"].tensors)
    assert server.close_round(sent | {"client2": Upload(spoiled)}) == ["client0", "client1"]
    with pytest.raises(LorankError, match="no client sent anything usable"):
        server.close_round({"client2": Upload(spoiled)})
    assert server.round == 1


def test_a_client_that_missed_rounds_gets_all_that_was_added_meanwhile() -> None:
    aggregator = make_aggregator("fedex-lora")
    peers = [Peer().shake(i) for i in range(3)]
    server = Server(aggregator)
    server.begin(aggregator.start(peers[0].state, peers[0].layout))
    total: dict = {}
    for number in range(4):
        for i, peer in enumerate(peers):
            peer.shake(10 * number + i)
        server.close_round(uploads(aggregator, peers))
        for path, factors in aggregator.residual(server.last, peers[0].layout).items():
            total[path] = total.get(path, 0) + dense_update(factors).double()
    assert not any("whole" in name for name in server.reply("client0", 3))
    message = server.reply("client0", 1)
    for path, wanted in total.items():
        whole = message[f"{path}.whole_B"].double() @ message[f"{path}.whole_A"].double()
        torch.testing.assert_close(whole, wanted, atol=1e-4, rtol=1e-4)
        assert message[f"{path}.whole_A"].shape[0] <= min(wanted.shape)
