"""Tiny random causal language models of two architectures, with a byte tokenizer and a chat template."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

CHAT = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
WORDS = ("Yes", "No", "<user>", "<assistant>")
SIZES = {
    "vocab_size": 280,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
}


def causal_tokenizer(chat: bool = True, words: tuple[str, ...] = WORDS) -> PreTrainedTokenizerFast:
    """Return a tokenizer of single bytes and a few whole words."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<pad>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")
    wrapped.add_tokens(list(words))
    wrapped.chat_template = CHAT if chat else None
    return wrapped


def llama() -> PretrainedConfig:
    return LlamaConfig(**SIZES)


def qwen2() -> PretrainedConfig:
    return Qwen2Config(tie_word_embeddings=True, **SIZES)


TINY_CAUSAL = {"llama": llama, "qwen2": qwen2}


def write_causal(
    folder: Path, config: PretrainedConfig, *, chat: bool = True, spread: float = 0.1, loudness: float = 1.0
) -> Path:
    """Write a random model of ``config``, its output layer times ``loudness``, and its tokenizer."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            parameter.data += spread * torch.randn(parameter.shape)
        model.get_output_embeddings().weight.data *= loudness
    model.save_pretrained(folder)
    causal_tokenizer(chat).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_causals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of model and tokenizer for each architecture."""
    return {name: write_causal(tmp_path_factory.mktemp(name), build()) for name, build in TINY_CAUSAL.items()}
