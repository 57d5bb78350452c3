"""PEFT as the peer: it loads our folders, we load its, on four kinds of encoder with new heads."""

import json

import numpy as np
import peft
import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import DataError, UsageError
from lorank.lowrank import peft_config

ARCHITECTURES = ("bert", "roberta", "deberta-v2", "modernbert")
every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
METHODS = ("lora", "dora", "rslora", "pissa")
TARGETS = {
    "bert": ["query", "value", "intermediate.dense"],
    "roberta": ["query", "key"],
    "deberta-v2": ["query_proj", "value_proj", "output.dense"],
    "modernbert": ["Wqkv", "Wo"],
}


def scores(model, probe):
    with torch.no_grad():
        return probe(model.eval()).numpy()


@every_architecture
@pytest.mark.parametrize("method", METHODS)
def test_peft_loads_our_folder_on_the_original_base(architecture, method, make_scorer, probe, shake, tmp_path):
    model, heads = make_scorer(architecture)
    adapter = lowrank.attach(model, method, rank=3, trained=heads, ranks={r".*\.0\..*": 5}, seed=2)
    shake(adapter)
    adapter.save(tmp_path / "adapter", base_name="tiny", probe=probe)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert sorted(config["modules_to_save"]) == sorted(heads)
    peer = peft.PeftModel.from_pretrained(make_scorer(architecture)[0], tmp_path / "adapter")
    np.testing.assert_allclose(scores(peer, probe), scores(model, probe), rtol=1e-5, atol=5e-6)
    assert np.ptp(scores(model, probe)) > 1e-2


@every_architecture
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_dora": True},
        {"use_rslora": True, "lora_alpha": 5},
        {
            "rank_pattern": {r".*(query|query_proj|Wqkv)": 6, r".*layers?\.0\..*": 1},
            "alpha_pattern": {r".*(query|query_proj|Wqkv)": 3},
        },
    ],
    ids=["lora", "dora", "rslora", "patterns"],
)
def test_we_load_pefts_folder(architecture, options, make_scorer, probe, tmp_path):
    model, heads = make_scorer(architecture)
    config = peft.LoraConfig(
        task_type="SEQ_CLS",
        r=4,
        lora_dropout=0.1,
        target_modules=TARGETS[architecture],
        modules_to_save=list(heads),
        init_lora_weights="gaussian",
        **options,
    )
    torch.manual_seed(0)
    theirs = peft.get_peft_model(model, config)
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape)
    theirs.save_pretrained(tmp_path / "adapter")
    ours, _ = make_scorer(architecture)
    adapter = lowrank.load(ours, tmp_path / "adapter")
    np.testing.assert_allclose(scores(ours, probe), scores(theirs, probe), rtol=1e-5, atol=5e-6)
    assert sorted(adapter.trained) == sorted(heads)
    adapter.save(tmp_path / "again")
    again, _ = make_scorer(architecture)
    peer = peft.PeftModel.from_pretrained(again, tmp_path / "again")
    np.testing.assert_allclose(scores(peer, probe), scores(theirs, probe), rtol=1e-5, atol=5e-6)


@every_architecture
def test_our_portable_export_is_a_plain_peft_folder_and_the_head_lies_beside_it(
    architecture, make_scorer, probe, shake, tmp_path
):
    model, heads = make_scorer(architecture)
    adapter = lowrank.attach(model, "pissa", rank=2, alpha=6.0, trained=heads, ranks={r".*\.1\..*": 4})
    shake(adapter)
    report = adapter.export(tmp_path / "portable", format="portable", probe=probe, limit=1e-6)
    assert report.largest_change <= 1e-6
    assert report.kendall_tau == pytest.approx(1.0)
    assert {path.name for path in report.files} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "head.safetensors",
        "lorank.json",
    }
    config = json.loads((tmp_path / "portable" / "adapter_config.json").read_text())
    assert config["r"] == config["lora_alpha"] == 8
    assert not {"rank_pattern", "alpha_pattern", "use_rslora", "use_dora"} & config.keys()
    bare, _ = make_scorer(architecture)
    head = lowrank.adapter_files.read_tensors(tmp_path / "portable" / "head.safetensors")
    assert bare.load_state_dict(head, strict=False).unexpected_keys == []
    peer = peft.PeftModel.from_pretrained(bare, tmp_path / "portable")
    np.testing.assert_allclose(scores(peer, probe), scores(model, probe), rtol=1e-5, atol=5e-6)


def test_layers_stored_transposed(tmp_path, tower, shake):
    def make():
        torch.manual_seed(0)
        return nn.ModuleDict({"inner": tower()})

    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    for method in METHODS:
        model = make()
        adapter = lowrank.attach(model, method, rank=2, targets=["transposed"], trained=["head"])
        shake(adapter)
        adapter.save(tmp_path / method)
        peer = peft.PeftModel.from_pretrained(make(), tmp_path / method)
        torch.testing.assert_close(peer.base_model.model["inner"](x), model["inner"](x), atol=1e-6, rtol=1e-6)
        theirs = peft.get_peft_model(
            make(),
            peft.LoraConfig(
                r=2,
                target_modules=["transposed"],
                fan_in_fan_out=True,
                init_lora_weights=False,
                use_dora=method == "dora",
            ),
        )
        theirs.save_pretrained(tmp_path / f"{method}-theirs")
        ours = make()
        lowrank.load(ours, tmp_path / f"{method}-theirs")
        torch.testing.assert_close(ours["inner"](x), theirs.base_model.model["inner"](x), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_pefts(tower, dtype, tmp_path, shake):
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    for method in ("lora", "dora", "rslora"):
        model = tower(dtype)
        adapter = lowrank.attach(model, method, rank=2, alpha=5.0, targets=["wide", "narrow"], seed=4)
        shake(adapter)
        adapter.save(tmp_path / method)
        peer = peft.PeftModel.from_pretrained(tower(dtype), tmp_path / method, is_trainable=True)
        model(x).square().sum().backward()
        peer(x).square().sum().backward()
        theirs = dict(peer.named_parameters())
        for path, form in adapter.forms.items():
            layer = f"base_model.model.{path}.lora_"
            pairs = [(form.A, theirs[layer + "A.default.weight"]), (form.B, theirs[layer + "B.default.weight"])]
            if method == "dora":
                pairs.append((form.magnitude, theirs[layer + "magnitude_vector.default.weight"]))
            for ours, reference in pairs:
                torch.testing.assert_close(ours.grad, reference.grad.to(dtype), atol=1e-5, rtol=1e-4)


def test_a_start_like_pefts(tower, tmp_path):
    model = tower()
    adapter = lowrank.attach(model, "pissa", rank=2, targets=["wide"])
    peer = peft.get_peft_model(
        tower(), peft.LoraConfig(r=2, lora_alpha=2, target_modules=["wide"], init_lora_weights="pissa")
    )
    theirs = peer.base_model.model.wide
    form = adapter.forms["wide"]
    torch.testing.assert_close(form.B @ form.A, theirs.lora_B["default"].weight @ theirs.lora_A["default"].weight)
    torch.testing.assert_close(
        model.wide.base.weight - form.B0 @ form.A0, theirs.base_layer.weight, atol=1e-6, rtol=1e-5
    )
    peer.save_pretrained(tmp_path / "unconverted")
    with pytest.raises(UsageError, match="path_initial_model_for_weight_conversion"):
        lowrank.load(tower(), tmp_path / "unconverted")


def test_every_default_option_of_peft_is_known(tmp_path, tower):
    peer = peft.get_peft_model(tower(), peft.LoraConfig(target_modules=["wide"]))
    peer.save_pretrained(tmp_path / "a")
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert {key for key, value in config.items() if value} <= peft_config.HARMLESS
    lowrank.load(tower(), tmp_path / "a")


def test_we_write_no_key_that_peft_does_not_know(tmp_path, tower, recwarn):
    lowrank.attach(
        tower(), "dora", rank=2, scaling="rslora", ranks={"wide": 1}, alphas={"wide": 2}, trained=["head"]
    ).save(tmp_path / "a")
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    known = peft.LoraConfig().to_dict().keys()
    assert config.keys() <= known


def rewrite(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"peft_type": "LOKR"}, UsageError, "LOKR"),
        ({"bias": "all"}, UsageError, "bias"),
        ({"layer_replication": [[0, 1]]}, UsageError, "layer_replication"),
        ({"r": 3}, DataError, "rank 2"),
        ({"use_dora": True}, DataError, "lora_magnitude_vector"),
        ({"modules_to_save": None}, DataError, "modules_to_save"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_folders_that_cannot_be_read_say_why(changes, error, message, tmp_path, tower):
    peer = peft.get_peft_model(tower(), peft.LoraConfig(r=2, target_modules=["wide"], modules_to_save=["head"]))
    peer.save_pretrained(tmp_path / "a")
    rewrite(tmp_path / "a", **changes)
    model = tower()
    with pytest.raises(error, match=message):
        lowrank.load(model, tmp_path / "a")
    assert type(model.wide) is nn.Linear


def test_pickled_tensors_are_refused(tmp_path, tower):
    peer = peft.get_peft_model(tower(), peft.LoraConfig(r=2, target_modules=["wide"]))
    peer.save_pretrained(tmp_path / "a", safe_serialization=False)
    with pytest.raises(DataError, match="safe_serialization"):
        lowrank.load(tower(), tmp_path / "a")


def test_a_head_of_another_width_is_refused_by_name(make_scorer, tmp_path):
    model, heads = make_scorer("bert")
    lowrank.attach(model, rank=1, trained=heads).save(tmp_path / "a")
    from transformers import BertForSequenceClassification

    model.config.num_labels = 3
    with pytest.raises(DataError, match=r"classifier\.\w+ has shape \(1,.*, the model has \(3,"):
        lowrank.load(BertForSequenceClassification(model.config), tmp_path / "a")
