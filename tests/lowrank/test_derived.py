"""Every form on a copy of its base: the update is the same up to the copy's rounding, or the folder is refused."""

import json

import pytest
import torch

from adapter_methods import attach
from lorank import lowrank
from lorank.errors import DataError
from lorank.lowrank.folder import contents_of, open_forms
from lorank.lowrank.forms.form import FORMS

DERIVED = sorted(name for name, form in FORMS.items() if form.derived)
COPIES = {
    "bf16": lambda model: model.to(torch.bfloat16),
    "fp16": lambda model: model.half(),
    "int8": lambda model: lowrank.quantise(model, "int8"),
    "nf4": lambda model: lowrank.quantise(model, "nf4"),
}


def saved(name, tower, shake, folder, **keywords):
    adapter = attach(tower(), (name, None, {}), trained=[])
    shake(adapter, 0.3)
    adapter.save(folder, **keywords)
    return adapter


def deltas(adapter):
    return {path: form.delta(adapter.layers[path].frozen.weight).float() for path, form in adapter.forms.items()}


def largest_change(ours, theirs):
    return max(float((ours[path] - theirs[path]).norm() / theirs[path].norm()) for path in theirs)


def test_forms_of_the_weights_own_factors_are_known():
    assert set(DERIVED) >= {"lora-xs", "svfit", "pmss", "loldu", "edora", "salt", "nora-nested", "lamda"}


@pytest.mark.parametrize("name", sorted(FORMS))
@pytest.mark.parametrize("kind", COPIES)
def test_on_a_rounded_copy_the_update_is_near_or_the_folder_is_refused(name, kind, tower, shake, tmp_path):
    adapter = saved(name, tower, shake, tmp_path)
    copy = tower()
    COPIES[kind](copy)
    weights = {path: layer.frozen.weight.float() for path, layer in adapter.layers.items()}
    again, refusal = None, ""
    try:
        again = lowrank.load(copy, tmp_path)
    except DataError as error:
        refusal = str(error)
    if again is None:
        assert name in DERIVED
        assert "factors=True" in refusal
        assert not any(isinstance(module, lowrank.Adapted) for module in copy.modules())
        return
    rounded = {path: layer.frozen.weight.float() for path, layer in again.layers.items()}
    change = largest_change(deltas(again), deltas(adapter))
    assert change <= (0.1 if name in DERIVED else 3 * largest_change(rounded, weights) + 0.02)


@pytest.mark.parametrize("name", DERIVED)
def test_another_model_is_refused_also_where_forms_are_opened_without_a_model(name, tower, shake, tmp_path):
    adapter = saved(name, tower, shake, tmp_path)
    other = tower()
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    with pytest.raises(DataError, match="computes from the weight"):
        lowrank.load(other, tmp_path)
    with pytest.raises(DataError, match="computes from the weight"):
        open_forms(contents_of(adapter), other, tmp_path)


@pytest.mark.parametrize("name", DERIVED)
@pytest.mark.parametrize("kind", ["bf16", "nf4"])
def test_a_folder_that_brings_the_factors_fits_every_copy(name, kind, tower, shake, tmp_path):
    adapter = saved(name, tower, shake, tmp_path, factors=True)
    copy = tower()
    COPIES[kind](copy)
    again = lowrank.load(copy, tmp_path)
    if name != "edora":  # its update is also a factor of W itself
        assert largest_change(deltas(again), deltas(adapter)) < 1e-5
    fresh, x = tower(), torch.ones(2, 6)
    lowrank.load(fresh, tmp_path).save(tmp_path / "again", factors=True)
    torch.testing.assert_close(fresh(x), adapter.model(x))
    lowrank.load(tower(), tmp_path / "again")


@pytest.mark.parametrize("name", DERIVED)
def test_trained_on_a_quantised_base_the_folder_brings_the_factors(name, tower, shake, tmp_path):
    model = tower()
    lowrank.quantise(model)
    adapter = attach(model, (name, None, {}), trained=[])
    shake(adapter, 0.3)
    adapter.save(tmp_path)
    same = tower()
    lowrank.quantise(same)
    again = lowrank.load(same, tmp_path)
    torch.testing.assert_close(same(torch.ones(2, 6)), model(torch.ones(2, 6)))
    if name != "edora":
        assert largest_change(deltas(lowrank.load(tower(), tmp_path)), deltas(again)) < 1e-5


@pytest.mark.parametrize("name", DERIVED)
def test_sketches_are_of_the_bases_weight_and_a_folder_without_them_loads(name, tower, shake, tmp_path):
    adapter = saved(name, tower, shake, tmp_path / "plain")
    adapter.merge()
    adapter.save(tmp_path / "merged")
    plain, merged = (json.loads((tmp_path / each / "lorank.json").read_text()) for each in ("plain", "merged"))
    assert adapter.merged
    for path, sketch in plain["sketches"].items():
        torch.testing.assert_close(torch.tensor(merged["sketches"][path]), torch.tensor(sketch))
    del plain["sketches"]  # as earlier versions wrote it
    (tmp_path / "plain" / "lorank.json").write_text(json.dumps(plain))
    lowrank.load(tower(), tmp_path / "plain")


def test_an_untrained_adapter_loads_on_its_base(tower, tmp_path):
    for name in DERIVED:
        attach(tower(), (name, None, {}), trained=[]).save(tmp_path / name)
        lowrank.load(tower(), tmp_path / name)
