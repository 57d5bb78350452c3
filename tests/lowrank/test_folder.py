"""Folders appear whole or not at all, and one that does not fit is refused with a reason."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import DataError, LorankError
from lorank.files import replaced_folder
from lorank.lowrank import adapter_files
from lorank.lowrank import folder as folders


def saved(tower, shake, path, **keywords):
    model = tower()
    keywords = {"rank": 2, "trained": ["head"]} | keywords
    adapter = lowrank.attach(model, **keywords)
    shake(adapter)
    return model, adapter, adapter.save(path)


def test_the_files(tower, shake, tmp_path):
    _, adapter, files = saved(tower, shake, tmp_path / "a", dropout=0.25, seed=9)
    assert [path.name for path in files] == ["adapter_config.json", "adapter_model.safetensors", "lorank.json"]
    assert all(path.is_file() for path in files)
    about = json.loads((tmp_path / "a" / "lorank.json").read_text())
    assert about["layers"]["wide"] == pytest.approx({"rank": 2, "alpha": 2.0})
    assert about["trained"] == ["head"]
    assert lowrank.load(tower(), tmp_path / "a").settings == adapter.settings


def test_a_loaded_adapter_can_be_frozen_or_trained_on(tower, shake, tmp_path):
    saved(tower, shake, tmp_path / "a")
    assert lowrank.load(tower(), tmp_path / "a", trainable=False).num_parameters() == 0
    assert lowrank.load(tower(), tmp_path / "a").num_parameters() > 0


def test_layers_of_rank_0_vanish_from_the_tensors_and_come_back(tower, shake, tmp_path):
    model, _, _ = saved(tower, shake, tmp_path / "a", ranks={"narrow": 0})
    tensors = adapter_files.read_tensors(tmp_path / "a" / "adapter_model.safetensors")
    assert not any("narrow" in key for key in tensors)
    again = tower()
    assert lowrank.load(again, tmp_path / "a").forms["narrow"].rank == 0
    torch.testing.assert_close(again(torch.ones(2, 6)), model(torch.ones(2, 6)))


def test_a_new_module_that_is_not_listed_is_found_by_the_probe(tmp_path, make_scorer, probe, monkeypatch):
    model, heads = make_scorer("deberta-v2")
    adapter = lowrank.attach(model, rank=2, trained=heads)
    original = folders.contents_of

    def forgetful(adapter):
        contents = original(adapter)
        return replace(contents, trained={"classifier": contents.trained["classifier"]})

    monkeypatch.setattr(folders, "contents_of", forgetful)
    with pytest.raises(LorankError, match="scores differently"):
        adapter.save(tmp_path / "a", probe=probe)
    assert list(tmp_path.iterdir()) == []


def test_scores_are_the_same_up_to_rounding_at_their_own_size(tower, shake, tmp_path):
    adapter = lowrank.attach(tower())
    shake(adapter)

    def answers(*scores):
        given = iter(scores)
        return lambda model: np.array(next(given))

    adapter.save(tmp_path / "a", probe=answers([16.0, 3.0], [16.000004, 3.0]))
    with pytest.raises(LorankError, match="scores differently by 4e-06"):
        adapter.save(tmp_path / "b", probe=answers([0.5, 0.25], [0.500004, 0.25]))


def test_a_write_that_loses_a_bit_is_found(tower, shake, tmp_path, monkeypatch):
    adapter = lowrank.attach(tower())
    real = adapter_files.save_file

    def careless(tensors, path, metadata):
        first = next(iter(tensors))
        real(tensors | {first: tensors[first] * (1 + 1e-7)}, path, metadata=metadata)

    monkeypatch.setattr(adapter_files, "save_file", careless)
    with pytest.raises(LorankError, match="were not written as they are"):
        adapter.save(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_folder_as_it_was(tower, shake, tmp_path):
    _, adapter, _ = saved(tower, shake, tmp_path / "a")
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    shake(adapter)
    with pytest.raises(ZeroDivisionError):
        adapter.save(tmp_path / "a", probe=lambda model: 1 / 0)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_exists_keeps_its_other_files(tower, shake, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "README.md").write_text("mine")
    saved(tower, shake, tmp_path / "a")
    assert (tmp_path / "a" / "README.md").read_text() == "mine"
    assert (tmp_path / "a" / "lorank.json").is_file()


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(LorankError, match="is a file"), replaced_folder(tmp_path / "a"):
        pass


def corrupt(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: corrupt(folder / "adapter_model.safetensors"), "not whole"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "the file is missing"),
        (lambda folder: (folder / "lorank.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "lorank.json").write_text("[]"), "not a JSON object"),
        (lambda folder: (folder / "lorank.json").write_text("{}"), "not what lorank writes"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], "no adapter here"),
    ],
)
def test_harmed_folders(harm, message, tower, shake, tmp_path):
    saved(tower, shake, tmp_path / "a")
    harm(tmp_path / "a")
    model = tower()
    with pytest.raises(DataError, match=message):
        lowrank.load(model, tmp_path / "a")
    assert type(model.wide) is nn.Linear


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: setattr(model, "wide", nn.Identity()), "a Identity"),
        (lambda model: delattr(model, "narrow"), "no such layer"),
        (lambda model: setattr(model, "wide", nn.Linear(6, 11)), "do not fit"),
        (lambda model: setattr(model, "head", nn.Linear(7, 2)), "has shape"),
        (lambda model: setattr(model, "head", nn.Linear(7, 1, bias=False)), "differ in"),
    ],
)
def test_another_model(change, message, tower, shake, tmp_path):
    saved(tower, shake, tmp_path / "a")
    model = tower()
    change(model)
    with pytest.raises(DataError, match=message):
        lowrank.load(model, tmp_path / "a")
    assert not any(isinstance(module, lowrank.Adapted) for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
