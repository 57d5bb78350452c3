"""Model folders as they are found: pickles, positions, token types, labels, heads, prompts, names."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AlbertConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    DistilBertConfig,
    ElectraConfig,
    MPNetConfig,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from lorank.errors import UsageError
from lorank.ranking.scorers import BiEncoder, CausalRanker, CrossEncoder
from lorank.ranking.scorers.pretrained import longest_input
from tiny_encoders import SIZES, modernbert_tokenizer, word_pieces
from tiny_rerankers import write_reranker

TEXTS = ["sorting a list", "", "the moon orbits the earth " * 40, "why? <pad> and [PAD] in it", "x"]


def classifier(folder, target, labels=1, **settings):
    """Write a random classifier on the encoder of a tiny folder."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=labels)
        for name, parameter in model.named_parameters():
            if "classifier" in name:
                parameter.data.normal_()
    for key, value in settings.items():
        setattr(model.config, key, value)
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(folder).save_pretrained(target)
    return target


def padded_logits(folder, query, texts, limit):
    """The logits [texts, labels] of transformers' own padded way."""
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    pairs = tokenizer(
        [query] * len(texts), texts, padding=True, truncation="longest_first", max_length=limit, return_tensors="pt"
    )
    with torch.no_grad():
        return model(**pairs).logits


@pytest.mark.parametrize("kind", [BiEncoder, CrossEncoder])
def test_pickled_weights_are_refused_with_the_remedy(kind, tiny_folders, tmp_path):
    shutil.copytree(tiny_folders["bert"], tmp_path / "pickled")
    weights = load_file(tmp_path / "pickled" / "model.safetensors")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"pickled \(pytorch_model.bin\).*convert them.*save_pretrained"):
        kind(tmp_path / "pickled")
    (tmp_path / "pickled" / "pytorch_model.bin").unlink()
    with pytest.raises(UsageError, match="has no weights"):
        kind(tmp_path / "pickled")


def test_a_pickled_causal_model_is_refused(tmp_path):
    folder = write_reranker(tmp_path / "pickled", "llama")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"pickled \(pytorch_model.bin\)"):
        CausalRanker(folder)


@pytest.mark.parametrize("name", ["bert", "roberta", "xlm-roberta", "deberta-v2", "modernbert"])
def test_the_packed_way_is_transformers_padded_way(name, tiny_folders, tmp_path):
    folder = classifier(tiny_folders[name], tmp_path / name)
    ranker = CrossEncoder(folder, max_length=60)
    expected = padded_logits(folder, "how are [PAD] lists <pad> sorted", TEXTS, 60)[:, 0]
    np.testing.assert_allclose(ranker.score("how are [PAD] lists <pad> sorted", TEXTS), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "deberta-v2"])
def test_a_tokenizer_without_token_types_reads_as_transformers_does(name, tiny_folders, tmp_path):
    folder = classifier(tiny_folders[name], tmp_path / name)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["model_input_names"] = ["input_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    expected = padded_logits(folder, "how are lists sorted", TEXTS, 60)[:, 0]
    ranker = CrossEncoder(folder, max_length=60)
    np.testing.assert_allclose(ranker.score("how are lists sorted", TEXTS), expected, rtol=1e-4, atol=1e-5)


OTHERS = {
    "electra": lambda: ElectraConfig(vocab_size=200, embedding_size=16, num_labels=1, **SIZES),
    "albert": lambda: AlbertConfig(vocab_size=200, embedding_size=16, num_labels=1, **SIZES),
    "mpnet": lambda: MPNetConfig(vocab_size=200, pad_token_id=0, num_labels=1, **SIZES),
    "distilbert": lambda: DistilBertConfig(
        vocab_size=200, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=80, num_labels=1
    ),
}


@pytest.mark.parametrize("name", list(OTHERS))
def test_other_encoders_score_as_transformers_does(name, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(6)
        model = AutoModelForSequenceClassification.from_config(OTHERS[name]())
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape)
    model.save_pretrained(tmp_path)
    tokenizer = word_pieces()
    if name in ("distilbert", "mpnet"):
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.save_pretrained(tmp_path)
    ranker = CrossEncoder(tmp_path, max_length=60)
    expected = padded_logits(tmp_path, "how are lists sorted", TEXTS, 60)[:, 0]
    np.testing.assert_allclose(ranker.score("how are lists sorted", TEXTS), expected, rtol=1e-4, atol=1e-5)


def test_an_encoder_decoder_is_refused(tmp_path):
    config = T5Config(vocab_size=50, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    for kind in (BiEncoder, CrossEncoder):
        with pytest.raises(UsageError, match="is an encoder-decoder"):
            kind(tmp_path)
    with pytest.raises(UsageError, match="no causal language model"):
        CausalRanker(tmp_path)


@pytest.fixture(scope="module")
def mpnet(tmp_path_factory):
    """An MPNet whose tokenizer states no length and makes token types that the model does not take."""
    folder = tmp_path_factory.mktemp("mpnet")
    with torch.random.fork_rng():
        torch.manual_seed(2)
        AutoModel.from_config(MPNetConfig(vocab_size=400, pad_token_id=1, **SIZES)).save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=modernbert_tokenizer().backend_tokenizer,
        pad_token="<pad>",
        cls_token="<s>",
        sep_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    tokenizer.save_pretrained(folder)
    return folder


def test_positions_behind_padding_bound_the_length(mpnet):
    ranker = CrossEncoder(mpnet, head="random")
    assert longest_input(ranker.tokenizer, ranker.module.config, ranker.module) == SIZES["max_position_embeddings"] - 2
    assert ranker.max_length == SIZES["max_position_embeddings"] - 2
    assert np.isfinite(ranker.score("q" * 200, TEXTS)).all()
    assert np.isfinite(BiEncoder(mpnet).encode(TEXTS)).all()


def test_several_labels_are_named_and_one_is_chosen(tiny_folders, tmp_path):
    for count in (2, 3):
        names = dict(enumerate(["contradiction", "entailment", "neutral"][:count]))
        folder = classifier(tiny_folders["bert"], tmp_path / str(count), count, id2label=names)
        with pytest.raises(UsageError, match=rf"into {count} labels: 0 \(contradiction\), 1 \(entailment\).*label="):
            CrossEncoder(folder)
        logits = padded_logits(folder, "q", TEXTS, 60)
        for label in (1, "1", "Entailment"):
            ranker = CrossEncoder(folder, max_length=60, label=label)
            chance = torch.from_numpy(ranker.score("q", TEXTS)).sigmoid()
            np.testing.assert_allclose(chance, logits.softmax(1)[:, 1], rtol=1e-4, atol=1e-5)
        with pytest.raises(UsageError, match=f"label='maybe' is none of the {count} labels"):
            CrossEncoder(folder, label="maybe")
        ranker.save(tmp_path / f"saved{count}")
        again = CrossEncoder.load(tmp_path / f"saved{count}")
        np.testing.assert_allclose(again.score("q", TEXTS), ranker.score("q", TEXTS), rtol=1e-5, atol=1e-6)
        peer = pytest.importorskip("sentence_transformers").CrossEncoder(str(tmp_path / f"saved{count}"))
        theirs = torch.tensor(peer.predict([("q", text) for text in TEXTS], apply_softmax=True))
        np.testing.assert_allclose(chance, theirs[:, 1], rtol=1e-4, atol=1e-5)


def test_independent_labels_are_scored_by_their_own_logit(tiny_folders, tmp_path):
    folder = classifier(tiny_folders["bert"], tmp_path / "m", 3, problem_type="multi_label_classification")
    ranker = CrossEncoder(folder, max_length=60, label=2)
    logits = padded_logits(folder, "q", TEXTS, 60)
    np.testing.assert_allclose(ranker.score("q", TEXTS), logits[:, 2], rtol=1e-4, atol=1e-5)


def test_a_label_of_one_that_has_none_is_refused(tiny_folders, tmp_path):
    with pytest.raises(UsageError, match="no labels to choose from"):
        CrossEncoder(tiny_folders["bert"], label=1)
    with pytest.raises(UsageError, match="has one label"):
        CrossEncoder(classifier(tiny_folders["bert"], tmp_path / "one"), label=1)
    assert CrossEncoder(tmp_path / "one", label=0).label is None
    with pytest.raises(UsageError, match="language model, which has no labels"):
        CausalRanker(write_reranker(tmp_path / "lm", "llama"), label=1)


def test_a_reward_model_of_two_labels_gives_the_log_odds(tmp_path):
    folder = write_reranker(tmp_path / "two", "llama", head=True, labels=2)
    with pytest.raises(UsageError, match="2 labels"):
        CausalRanker(folder, view="head")
    one, other = (CausalRanker(folder, view="head", label=label, chat="off").score("q", TEXTS) for label in (0, 1))
    np.testing.assert_allclose(one, -other, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        CrossEncoder(folder, label=1).score("q", ["a"]), -CrossEncoder(folder, label=0).score("q", ["a"]), rtol=1e-4
    )


def test_training_reads_the_chosen_label(tiny_folders, tmp_path):
    ranker = CrossEncoder(classifier(tiny_folders["roberta"], tmp_path / "three", 3), label=2)
    inputs = ranker.prepare(["q"], TEXTS)
    grid = torch.arange(len(TEXTS)).unsqueeze(0)
    scores = ranker.forward(inputs, torch.tensor([0]), grid, torch.ones_like(grid, dtype=torch.bool))
    np.testing.assert_allclose(scores[0].detach(), ranker.score("q", TEXTS), rtol=1e-4, atol=1e-5)
    scores.sum().backward()
    assert ranker.module.classifier.out_proj.weight.grad.abs().sum() > 0


def test_a_classifier_that_lost_its_head_is_refused(tiny_folders, tmp_path):
    folder = classifier(tiny_folders["bert"], tmp_path / "lost")
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "classifier" not in name}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        UsageError, match="saved as a BertForSequenceClassification, but it lacks weights, such as class"
    ):
        CrossEncoder(folder)


@pytest.mark.parametrize("prompt", ["search for: ", ""])
def test_the_default_prompt_of_a_cross_encoder_is_read(prompt, tiny_folders, tmp_path):
    peer = pytest.importorskip("sentence_transformers")
    theirs = peer.CrossEncoder(
        str(classifier(tiny_folders["bert"], tmp_path / "made")),
        prompts={"find": prompt, "other": "no: "},
        default_prompt_name="find",
        activation_fn=torch.nn.Identity(),
    )
    theirs.save_pretrained(str(tmp_path / "theirs"))
    theirs = peer.CrossEncoder(str(tmp_path / "theirs"))
    ours = CrossEncoder(tmp_path / "theirs")
    expected = theirs.predict([("how are lists sorted", text) for text in TEXTS])
    assert ours.query_prefix == prompt
    np.testing.assert_allclose(ours.score("how are lists sorted", TEXTS), expected, rtol=1e-4, atol=1e-5)
    ours.save(tmp_path / "ours")
    again = peer.CrossEncoder(str(tmp_path / "ours")).predict([("how are lists sorted", text) for text in TEXTS])
    np.testing.assert_allclose(again, expected, rtol=1e-4, atol=1e-5)
    plain = CrossEncoder(tmp_path / "theirs", query_prefix="")
    assert np.allclose(plain.score("q", TEXTS), ours.score("q", TEXTS)) == (prompt == "")


def test_a_sigmoid_in_the_folder_is_of_the_logit_that_is_the_score(tiny_folders, tmp_path):
    peer = pytest.importorskip("sentence_transformers")
    theirs = peer.CrossEncoder(
        str(classifier(tiny_folders["bert"], tmp_path / "made")), activation_fn=torch.nn.Sigmoid()
    )
    theirs.save_pretrained(str(tmp_path / "theirs"))
    expected = peer.CrossEncoder(str(tmp_path / "theirs")).predict([("q", text) for text in TEXTS])
    logits = torch.from_numpy(CrossEncoder(tmp_path / "theirs").score("q", TEXTS))
    np.testing.assert_allclose(logits.sigmoid(), expected, rtol=1e-4, atol=1e-5)


def test_modules_that_a_cross_encoder_does_not_apply_are_refused(tiny_folders, tmp_path):
    ranker = CrossEncoder(classifier(tiny_folders["bert"], tmp_path / "made"))
    ranker.save(tmp_path / "saved")
    path = tmp_path / "saved" / "modules.json"
    modules = json.loads(path.read_text())
    modules.append({"idx": 1, "name": "1", "path": "1_Dense", "type": "sentence_transformers.base.modules.dense.Dense"})
    path.write_text(json.dumps(modules))
    with pytest.raises(UsageError, match="has a Dense module"):
        CrossEncoder(tmp_path / "saved")


def test_a_base_by_a_relative_path_is_kept_by_its_whole_path(tiny_folders, tmp_path, monkeypatch):
    shutil.copytree(tiny_folders["bert"], tmp_path / "models" / "tiny")
    monkeypatch.chdir(tmp_path)
    assert CrossEncoder("models/tiny").base == str(tmp_path / "models" / "tiny")
    assert BiEncoder("./models/tiny").base == str(tmp_path / "models" / "tiny")


def test_bert_for_two_labels_by_default_is_still_an_encoder(tiny_folders):
    """transformers writes two labels into configurations of plain encoders: they say nothing."""
    assert AutoTokenizer.from_pretrained(tiny_folders["bert"])
    assert BertForSequenceClassification.from_pretrained(tiny_folders["bert"]).config.num_labels == 2
    assert CrossEncoder(tiny_folders["bert"]).module.config.num_labels == 1
