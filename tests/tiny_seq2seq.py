"""Tiny random T5 models, with a tokenizer of bytes for whole prompts and one of words for Fusion-in-Decoder."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from tiny_causals import causal_tokenizer

GRADES = ("gold", "silver", "bronze", "iron", "clay")
"""What a planted passage says of itself, the best first."""
WORDS = ("Query", "Index", "Context", ":", ",", "find", "it", "a", "the", "of", "moon", "list", *GRADES)
NUMBERS = tuple(str(number) for number in range(1, 10))
SIZES = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0}


def with_end(tokenizer: Tokenizer) -> None:
    """Let a tokenizer put the end token behind each text, as T5's does."""
    end = tokenizer.token_to_id("</s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", end)])


def byte_tokenizer() -> PreTrainedTokenizerFast:
    wrapped = causal_tokenizer(chat=False)
    with_end(wrapped.backend_tokenizer)
    return wrapped


def word_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS, *NUMBERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with_end(tokenizer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def make_t5(
    tokenizer: PreTrainedTokenizerBase, *, spread: float = 0.1, seed: int = 3, **sizes: int
) -> T5ForConditionalGeneration:
    """Return a random T5 for a tokenizer."""
    config = T5Config(
        vocab_size=len(tokenizer), pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, **{**SIZES, **sizes}
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = T5ForConditionalGeneration(config)
        for parameter in model.parameters():
            parameter.data += spread * torch.randn(parameter.shape)
    return model.eval()


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a random T5 that reads bytes."""
    folder, tokenizer = tmp_path_factory.mktemp("t5"), byte_tokenizer()
    make_t5(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_fusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a random T5 that reads words."""
    folder, tokenizer = tmp_path_factory.mktemp("fusion"), word_tokenizer()
    make_t5(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def teach_order(
    model: T5ForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, steps: int, seed: int = 0
) -> None:
    """Teach a T5 to write the indices of five graded passages in rising order, by Fusion-in-Decoder.

    Grades are drawn with repetition, as a tournament draws them; of equal ones the first comes first.
    """
    from transformers.modeling_outputs import BaseModelOutput

    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(steps):
        texts, labels = [], []
        for _ in range(32):
            grades = torch.randint(5, (5,), generator=generator).tolist()
            texts += [f"Query: find it, Index: {i}, Context: the {GRADES[g]} of" for i, g in enumerate(grades, 1)]
            order = sorted(range(5), key=lambda place: -grades[place])
            labels.append(" ".join(str(place + 1) for place in order))
        read = tokenizer(texts, padding=True, return_tensors="pt")
        hidden = model.encoder(**{k: read[k] for k in ("input_ids", "attention_mask")}).last_hidden_state
        fused = BaseModelOutput(last_hidden_state=hidden.reshape(32, -1, hidden.shape[-1]))
        target = tokenizer(labels, return_tensors="pt")["input_ids"]
        loss = model(encoder_outputs=fused, attention_mask=read["attention_mask"].reshape(32, -1), labels=target).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
