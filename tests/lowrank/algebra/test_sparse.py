"""pe-clir-reranking: sparse masks and stacked adapters of a language and of the ranking task."""

import copy

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import DataError, UsageError
from lorank.lowrank.algebra import SparseUpdate
from lorank.lowrank.algebra.sparse import difference, masked, most_moved_places, restore, snapshot


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def learned(seed, share=0.1, model=None):
    """A sparse update of the network: trained whole, masked, gone back, trained again."""
    model = network() if model is None else model
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(64, 6, generator=generator), torch.randn(64, 3, generator=generator)

    def train(parameters, steps=20):
        optimizer = torch.optim.Adam(parameters, lr=0.02)
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            loss = (model(x) - y).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    before = snapshot(model)
    train(model.parameters())
    places = most_moved_places(before, model, share)
    restore(before, model)
    with masked(model, places) as parameters:
        losses = train(parameters)
    assert losses[-1] < losses[0]
    return model, before, difference(before, model, places)


def test_pe_clir_reranking_sparse_training_moves_the_mask_alone():
    model, before, update = learned(1)
    total = sum(value.numel() for value in before.values())
    assert len(update) == round(0.1 * total)
    moved = sum(int((model.get_parameter(name) != value).sum()) for name, value in before.items())
    assert 0 < moved <= len(update)
    assert all(parameter.requires_grad for parameter in model.parameters())
    fresh = network()
    update.apply(fresh)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(fresh.get_parameter(name), parameter)


def test_pe_clir_reranking_composition_is_commutative_and_comes_off_again():
    language, ranking = learned(1)[2], learned(2)[2]
    x, model = torch.randn(5, 6), network()
    base = model(x)
    outputs = []
    for order in ((language, ranking), (ranking, language)):
        with (order[0] + order[1]).on(model):
            outputs.append(model(x))
        assert torch.equal(model(x), base)
    torch.testing.assert_close(outputs[0], outputs[1])
    with language.on(model), ranking.on(model):
        torch.testing.assert_close(model(x), outputs[0])
    assert len(language + ranking) <= len(language) + len(ranking)


def test_pe_clir_reranking_swapping_the_language_leaves_the_ranking_updates_bytes(tmp_path):
    ranking, model, x = learned(2)[2], network(), torch.randn(5, 6)
    ranking.save(tmp_path / "ranking.safetensors")
    kept = (tmp_path / "ranking.safetensors").read_bytes()
    outputs = []
    for seed in (1, 3):
        language = learned(seed)[2]
        with (language + SparseUpdate.load(tmp_path / "ranking.safetensors")).on(model):
            outputs.append(model(x))
    assert not torch.allclose(*outputs)
    SparseUpdate.load(tmp_path / "ranking.safetensors").save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "ranking.safetensors").read_bytes() == kept


def test_pe_clir_reranking_stack_of_an_identity_language_adapter_is_the_ranking_adapter(tower, shake):
    model, x = tower(), torch.randn(4, 6)
    ranking = lowrank.attach(model, "lora", name="ranking", rank=2)
    shake(ranking)
    alone = model(x)
    language = lowrank.attach(model, "lora", name="language", rank=2)
    ranking.activate("language", "ranking")
    torch.testing.assert_close(model(x), alone)
    kept = {key: tensor.clone() for key, tensor in ranking.state().items()}
    shake(language)
    assert not torch.allclose(model(x), alone)
    assert all(torch.equal(kept[key], tensor) for key, tensor in ranking.state().items())


def test_wrong_use_is_told(tmp_path):
    stranger = nn.Linear(2, 2)
    update = SparseUpdate({"weight": (torch.tensor([0]), torch.ones(1))})
    with pytest.raises(UsageError, match="no parameter"):
        update.apply(network())
    with pytest.raises(UsageError, match="share"):
        most_moved_places(snapshot(stranger), stranger, 2.0)
    path = tmp_path / "other.safetensors"
    from safetensors.torch import save_file

    save_file({"w": torch.ones(1)}, path)
    with pytest.raises(DataError, match="not a sparse update"):
        SparseUpdate.load(path)
    assert len(copy.deepcopy(update)) == 1
