"""warm: the mean of whole weights, not of factors, and why one would want it."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lorank import lowrank
from lorank.catalogue import METHODS
from lorank.errors import DataError, UsageError
from lorank.ranking.losses import loss
from lorank.ranking.preferences import average_folders, average_weights
from lorank.ranking.scorers import FeatureRanker


def test_warm_of_one_model_is_that_model():
    assert METHODS["warm"].area == "losses.preference"
    state = {"a": torch.randn(3, 2, dtype=torch.bfloat16), "steps": torch.tensor([4])}
    averaged = average_weights([state])
    assert all(torch.equal(averaged[name], state[name]) for name in state)


def adapted(seed, merged=True):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1))
    adapter = lowrank.attach(model, "lora", rank=2, seed=seed)
    with torch.no_grad():
        for form in adapter.forms.values():
            for parameter in form.parameters():
                parameter.normal_(generator=torch.Generator().manual_seed(seed))
    return model, adapter


def test_warm_averages_merged_updates_and_that_is_not_the_average_of_factors():
    states, deltas, a, b = [], [], [], []
    for seed in range(3):
        model, adapter = adapted(seed)
        base = model[0].base.weight.detach().clone()
        deltas.append(model[0].delta())
        a.append(adapter.forms["0"].A.detach().clone())
        b.append(adapter.forms["0"].B.detach().clone())
        adapter.merge()
        states.append({"0.weight": model[0].base.weight.detach().clone()})
    averaged = average_weights(states)["0.weight"]
    torch.testing.assert_close(averaged, base + sum(deltas) / 3)
    factors = base + (sum(b) / 3) @ (sum(a) / 3)
    assert (averaged - factors).abs().max() > 0.1


def test_warm_of_corrupted_preferences_beats_its_members():
    """Rewards fine-tuned from one pretrained model on pairs of which a third are flipped, each on its own draw."""
    generator = torch.Generator().manual_seed(0)
    taste = torch.randn(20, generator=generator)

    def network():
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return torch.nn.Sequential(torch.nn.Linear(20, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))

    def tuned(start, seed, pairs, flipped, steps):
        model, own = network(), torch.Generator().manual_seed(seed)
        model.load_state_dict(start)
        x = torch.randn(pairs, 2, 20, generator=own)
        labels = (x @ taste).argsort(1).argsort(1).float()
        wrong = torch.rand(pairs, generator=own) < flipped
        labels[wrong] = 1 - labels[wrong]
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(steps):
            optimizer.zero_grad()
            loss("ranknet")(model(x).squeeze(2), labels).backward()
            optimizer.step()
        return {name: value.detach().clone() for name, value in model.state_dict().items()}

    pretrained = tuned(network().state_dict(), 99, 60, 0.2, 30)
    members = [tuned(pretrained, seed, 80, 0.33, 60) for seed in range(5)]
    test = torch.randn(2000, 2, 20, generator=generator)
    best = (test @ taste).argmax(1)

    def accuracy(state):
        model = network()
        model.load_state_dict(state)
        with torch.no_grad():
            return float((model(test).squeeze(2).argmax(1) == best).float().mean())

    assert accuracy(average_weights(members)) > np.mean([accuracy(state) for state in members]) + 0.02


def test_folders_are_averaged_and_open_as_rankers(tmp_path):
    rows = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    rankers = []
    for seed in range(2):
        ranker = FeatureRanker(features=4, hidden=(), transform="none", seed=seed)
        with torch.no_grad():
            for parameter in ranker.module.parameters():
                parameter.normal_(generator=torch.Generator().manual_seed(seed))
        ranker.save(tmp_path / str(seed))
        rankers.append(ranker)
    average_folders([tmp_path / "0", tmp_path / "1"], tmp_path / "warm")
    mean = np.mean([ranker.score("", rows) for ranker in rankers], axis=0)  # linear: the mean of the scores
    np.testing.assert_allclose(FeatureRanker.load(tmp_path / "warm").score("", rows), mean, rtol=1e-5, atol=5e-6)


def test_what_does_not_come_from_one_model_is_refused(tmp_path):
    with pytest.raises(UsageError, match="b differs"):
        average_weights([{"a": torch.ones(2)}, {"a": torch.ones(2), "b": torch.ones(1)}])
    with pytest.raises(UsageError, match="a differs"):
        average_weights([{"a": torch.ones(2)}, {"a": torch.ones(3)}])
    with pytest.raises(UsageError, match="integers"):
        average_weights([{"a": torch.tensor([1])}, {"a": torch.tensor([2])}])
    with pytest.raises(UsageError, match="no models"):
        average_weights([])
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    save_file({"a": torch.ones(1)}, tmp_path / "adapter" / "adapter_model.safetensors")
    with pytest.raises(DataError, match="export"):
        average_folders([tmp_path / "adapter"], tmp_path / "out")
