"""Tiny random rerankers of real architectures, in folders called as published ones are."""

from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How the tokenizers of Qwen divide a text before they join bytes."""
MERGES = (
    *(("?", "Ċ"), (".", "Ċ"), ("Ċ", "Ċ"), ("!", "Ċ"), (">", ":"), ("Ġ", "a"), ("t", "h"), ("th", "e"), ("Ġ", "the")),
    *(("y", "e"), ("ye", "s"), ("n", "o"), ("Y", "e"), ("Ye", "s"), ("N", "o"), ("i", "n"), ("o", "r"), ("Ġ", "Ġ")),
)
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 2048,
    "head_dim": 8,
    "initializer_range": 0.3,
}
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>")


def byte_tokenizer(begins: bool = False, chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """Return a tokenizer of bytes with a few joins, one of which goes over the end of a text, divided as Qwen's are."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: place for place, token in enumerate([*alphabet, *(a + b for a, b in MERGES)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(MERGES)))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    if begins:
        first = tokenizer.token_to_id("<s>")
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", first)]
        )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        bos_token="<s>" if begins else None,
        model_max_length=2048,
    )
    wrapped.chat_template = chat_template
    return wrapped


def config_of(kind: str, tokenizer: PreTrainedTokenizerFast, **changes: object) -> PretrainedConfig:
    """Return the configuration of a tiny model of an architecture."""
    made = {
        "qwen2": Qwen2Config,
        "qwen3": Qwen3Config,
        "gemma": GemmaConfig,
        "gemma2": Gemma2Config,
        "gemma3": Gemma3TextConfig,
        "llama": LlamaConfig,
        "mistral": MistralConfig,
        "phi3": Phi3Config,
    }
    sizes = {key: value for key, value in SIZES.items() if kind != "qwen2" or key != "head_dim"}
    return made[kind](
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **{**sizes, **changes},
    )


def write_reranker(
    folder: Path,
    kind: str,
    *,
    head: bool = False,
    labels: int = 1,
    begins: bool = False,
    chat: str | None = None,
    **changes: object,
) -> Path:
    """Write a random causal model, or with ``head`` a classifier, and its tokenizer; return the folder.

    ``changes`` are those of its configuration.
    """
    tokenizer = byte_tokenizer(begins, chat)
    config = config_of(kind, tokenizer, **changes)
    if head:
        config.num_labels = labels
    with torch.random.fork_rng():
        torch.manual_seed(len(folder.name))
        model = (AutoModelForSequenceClassification if head else AutoModelForCausalLM).from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
