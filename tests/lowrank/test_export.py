"""Exports open what they wrote, say what became of the scores, and leave nothing behind above the limit."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from lorank import lowrank
from lorank.errors import LorankError, UsageError
from lorank.lowrank.agreement import compare_scores

ARCHITECTURES = ("bert", "roberta", "deberta-v2", "modernbert")
WORDS = [f"w{index}" for index in range(54)]
PAIRS = [("w1 w2", "w3 w4 w5 w6"), ("w7", "w8"), ("w1 w2 w9", "w2 w3 w50 w51 w52"), ("w40", "w41 w42 w1")]


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        mask_token="[MASK]",
        model_max_length=48,
        model_input_names=["input_ids", "attention_mask"],
    )


def pair_probe(model):
    queries, documents = zip(*PAIRS, strict=True)
    batch = tokenizer()(list(queries), list(documents), padding=True, return_tensors="pt")
    return model(**batch).logits.squeeze(-1)


FRESH = """
import sys, pathlib
import numpy as np, torch, peft
from sentence_transformers import CrossEncoder
from transformers import AutoModelForSequenceClassification
from lorank import lowrank
root, here = pathlib.Path(sys.argv[1]), sys.argv[2]
sys.path.insert(0, here)
from test_export import PAIRS, pair_probe
for name in sys.argv[4:]:
    base = lambda: AutoModelForSequenceClassification.from_pretrained(root / name / "base", num_labels=1).eval()
    with torch.no_grad():
        ours = base()
        lowrank.load(ours, root / name / "adapter")
        theirs = peft.PeftModel.from_pretrained(base(), root / name / "adapter").eval()
        np.save(root / name / "lorank.npy", pair_probe(ours).numpy())
        np.save(root / name / "peft.npy", pair_probe(theirs).numpy())
    encoder = CrossEncoder(str(root / name / "merged"), device="cpu", activation_fn=torch.nn.Identity())
    np.save(root / name / "predict.npy", encoder.predict(PAIRS))
"""


def test_a_fresh_process_scores_the_same_through_lorank_peft_and_cross_encoder(
    make_scorer, encoder_folders, shake, tmp_path
):
    expected = {}
    for name in ARCHITECTURES:
        model, heads = make_scorer(name)
        (tmp_path / name).mkdir()
        (tmp_path / name / "base").symlink_to(encoder_folders[name])
        adapter = lowrank.attach(model, "dora" if name == "bert" else "lora", rank=4, trained=heads)
        shake(adapter)
        adapter.save(tmp_path / name / "adapter", probe=pair_probe)
        before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        report = adapter.export(
            tmp_path / name / "merged", "merged", probe=pair_probe, limit=1e-6, tokenizer=tokenizer()
        )
        assert report.largest_change <= 1e-6
        assert report.flipped_pairs == 0
        assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
        with torch.no_grad():
            expected[name] = pair_probe(model.eval()).numpy()
    subprocess.run(
        [sys.executable, "-c", FRESH, str(tmp_path), __file__.rpartition("/")[0], "--", *ARCHITECTURES],
        check=True,
        capture_output=True,
    )
    for name, scores in expected.items():
        assert np.ptp(scores) > 1e-3
        for way in ("lorank", "peft", "predict"):
            np.testing.assert_allclose(
                np.load(tmp_path / name / f"{way}.npy"), scores, rtol=1e-5, atol=5e-6, err_msg=f"{name} {way}"
            )


def test_a_merge_in_bf16_says_how_far_the_scores_moved(make_scorer, shake, probe, tmp_path):
    model, heads = make_scorer("bert")
    adapter = lowrank.attach(model, rank=2, trained=heads)
    shake(adapter)
    report = adapter.export(tmp_path / "half", "merged", probe=probe, limit=None, dtype=torch.bfloat16)
    assert 1e-6 < report.largest_change < 0.5
    assert -1 <= report.kendall_tau <= 1
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "half").dtype is torch.bfloat16
    with pytest.raises(LorankError, match="above the limit"):
        adapter.export(tmp_path / "no", "merged", probe=probe, limit=1e-6, dtype=torch.bfloat16)
    assert [path.name for path in tmp_path.iterdir()] == ["half"]
    assert model.dtype is torch.float32


def test_dora_as_portable_lora_at_full_rank_and_cut_off(make_scorer, shake, probe, tmp_path):
    model, heads = make_scorer("roberta")
    adapter = lowrank.attach(model, "dora", rank=2, trained=heads, targets=["query", "value"])
    shake(adapter, size=0.3)
    with pytest.raises(UsageError, match="rank or energy"):
        adapter.export(tmp_path / "a", "portable", probe=probe)
    full = adapter.export(tmp_path / "full", "portable", probe=probe, rank=16, limit=1e-5)
    near = adapter.export(tmp_path / "near", "portable", probe=probe, energy=0.99, limit=None)
    far = adapter.export(tmp_path / "far", "portable", probe=probe, rank=1, limit=None)
    assert full.largest_change < near.largest_change < far.largest_change
    with pytest.raises(LorankError, match="flipped"):
        adapter.export(tmp_path / "b", "portable", probe=probe, rank=1, limit=1e-9)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["far", "full", "near"]


def test_peft_export_reports_and_loads(make_scorer, shake, probe, tmp_path):
    model, heads = make_scorer("modernbert")
    adapter = lowrank.attach(model, "dora", rank=2, trained=heads)
    shake(adapter)
    report = adapter.export(tmp_path / "a", probe=probe, limit=1e-6)
    assert (report.format, report.kendall_tau, report.flipped_pairs) == pytest.approx(("peft", 1.0, 0))
    again, _ = make_scorer("modernbert")
    lowrank.load(again, tmp_path / "a")
    np.testing.assert_allclose(probe(again).detach(), probe(model.eval()).detach(), rtol=1e-5, atol=5e-6)


def test_what_cannot_be_exported(tower, tmp_path):
    adapter = lowrank.attach(tower(), rank=0)
    with pytest.raises(UsageError, match="unknown export format 'onnx'"):
        adapter.export(tmp_path / "a", "onnx")
    with pytest.raises(UsageError, match="rank 0"):
        adapter.export(tmp_path / "a", "peft")
    with pytest.raises(UsageError, match="rank 0"):
        adapter.export(tmp_path / "a", "portable")
    with pytest.raises(UsageError, match="save_pretrained"):
        adapter.export(tmp_path / "a", "merged")
    other = lowrank.attach(tower(), rank=1)
    other.merge()
    with pytest.raises(UsageError, match="unmerge"):
        other.export(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_kendalls_tau_is_scipys():
    from scipy.stats import kendalltau

    generator = np.random.default_rng(0)
    for _ in range(20):
        a, b = generator.integers(0, 6, (2, 15)).astype(float)
        change = compare_scores(a, b)
        assert change.kendall_tau == pytest.approx(kendalltau(a, b).statistic)
        assert change.largest == np.abs(a - b).max()
        flipped = sum((a[i] - a[j]) * (b[i] - b[j]) < 0 for i in range(15) for j in range(i))
        assert (change.flipped_pairs, change.pairs) == (flipped, 105)
    assert compare_scores(np.zeros(3), np.zeros(3)).kendall_tau == pytest.approx(1.0)
    assert compare_scores(np.zeros(0), np.zeros(0)).pairs == 0


def tied_models():
    from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    small = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    llama = LlamaConfig(**small, intermediate_size=24, tie_word_embeddings=True)
    gpt2 = GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=32, bos_token_id=1, eos_token_id=2)
    return {
        "llama": lambda: LlamaForCausalLM(llama),
        "gpt2": lambda: GPT2LMHeadModel(gpt2),
        "bert": lambda: BertForMaskedLM(BertConfig(**small, intermediate_size=24)),
    }


@pytest.mark.parametrize("form", ["lora", "dora", "c3a"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "bert"])
def test_a_head_that_is_tied_to_the_embedding(name, form, tmp_path, shake):
    torch.manual_seed(0)
    model = tied_models()[name]().eval()
    head = "cls.predictions.decoder" if name == "bert" else "lm_head"
    ids = torch.arange(3, 19).view(2, 8)
    embedding = model.get_input_embeddings().weight
    adapter = lowrank.attach(model, form, rank=2, targets=[head])
    shake(adapter, size=1.0)
    live = model(ids).logits.detach()
    if name == "bert":  # its head has a bias that is tied to the head's own
        with pytest.raises(LorankError, match=f"{head} shares its weight"):
            adapter.export(tmp_path / "merged", "merged")
        assert not list(tmp_path.iterdir())
    else:
        adapter.export(tmp_path / "merged", "merged")
        opened = type(model).from_pretrained(tmp_path / "merged").eval()
        torch.testing.assert_close(opened(ids).logits, live, atol=1e-5, rtol=1e-4)
    assert model.config.tie_word_embeddings
    adapter.merge()
    torch.testing.assert_close(model(ids).logits, live, atol=1e-5, rtol=1e-4)
    adapter.unmerge()
    assert model.get_input_embeddings().weight is embedding
    assert adapter.layers[head].base.weight is embedding
    assert torch.equal(model(ids).logits, live)
