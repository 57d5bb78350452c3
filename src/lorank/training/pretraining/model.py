"""The encoder that is pretrained: a trained base, or one from nothing as a configuration says, with its tokenizer."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer, BertTokenizer

from lorank.errors import DataError, UsageError
from lorank.ranking.scorers.pretrained import (
    check_weights,
    explain_unreachable,
    first_line,
    is_decoder,
    longest_input,
    quiet_transformers,
    resolve,
)

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
HEADS = ("cls", "lm_head", "lm_predictions")
"""What architectures call the layers that turn a token's state into scores of all tokens."""


@dataclass(frozen=True)
class MaskedModel:
    """An encoder with its language-model head.

    Attributes:
        module: The model.
        tokenizer: Its tokenizer, with a mask token.
        source: The folder or Hub name of a trained base, None for one from nothing.
        longest: The most tokens that it takes.
    """

    module: Any
    tokenizer: Any
    source: str | None
    longest: int

    @property
    def head(self) -> nn.Module | None:
        """The layers behind the encoder, None where they are not known apart."""
        found = [getattr(self.module, name, None) for name in HEADS]
        return next((head for head in found if isinstance(head, nn.Module)), None)

    def scores(self, tokens: Tensor, attention: Tensor, where: Tensor) -> Tensor:
        """Return the scores [n, vocabulary] of the places ``where`` is true, and compute no others where it can.

        Args:
            tokens: Token numbers [batch, length].
            attention: Where tokens are [batch, length].
            where: Booleans [batch, length].
        """
        head = self.head
        if head is None:
            out: Tensor = self.module(input_ids=tokens, attention_mask=attention).logits[where]
            return out
        encoder = getattr(self.module, self.module.base_model_prefix)
        states = encoder(input_ids=tokens, attention_mask=attention).last_hidden_state
        scores: Tensor = head(states[where])
        return scores


def open_masked(base: str | None, texts: Sequence[str], vocabulary: int, seed: int) -> MaskedModel:
    """Return the model that ``base`` names or describes.

    Args:
        base: A packaged name, a model folder or a Hub name, whose weights are taken; or a config.json, or a folder with
            one and no weights, for a model from nothing, whose tokenizer is the folder's or is trained on ``texts``.
        texts: The corpus.
        vocabulary: The most tokens of a tokenizer that is trained.
        seed: The seed of random weights.

    Raises:
        UsageError: For what is no encoder, is quantised, or cannot be reached.
    """
    if base is None:
        raise UsageError("no base; give --base with a model folder, minilm, or a config.json for a model from nothing")
    config_file = _config_file(base)
    if config_file is not None:
        return _from_nothing(config_file, texts, vocabulary, seed)
    source = resolve(base)
    check_weights(source)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of a head that the checkpoint lacks
        try:
            config = AutoConfig.from_pretrained(source)
            _check_config(source, config)
            module = AutoModelForMaskedLM.from_pretrained(
                source, config=config, dtype=torch.float32, use_safetensors=True
            )
            tokenizer = AutoTokenizer.from_pretrained(source)
        except (OSError, ValueError, RuntimeError) as error:
            raise UsageError(explain_unreachable(base, source, error)) from error
    _check_tokenizer(source, tokenizer)
    return MaskedModel(module, tokenizer, source, longest_input(tokenizer, config, module))


def count_parameters(parameters: Iterable[Tensor]) -> int:
    """Return how many values there are, shared ones once."""
    return sum(each.numel() for each in {id(p): p for p in parameters}.values())


def train_tokenizer(texts: Sequence[str], vocabulary: int, longest: int) -> Any:
    """Return a tokenizer of word pieces, the same for the same texts.

    Args:
        texts: What it is trained on.
        vocabulary: The most tokens.
        longest: The most tokens that the model takes.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    letters = sorted(
        {letter for text in texts for letter in tokenizer.normalizer.normalize_str(text) if letter.strip()}
    )
    within = [
        f"##{letter}" for letter in letters[: vocabulary // 4]
    ]  # numbered here, else in the order of a hash table
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary, special_tokens=[*SPECIAL, *within], limit_alphabet=vocabulary // 4, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return BertTokenizer(vocab=tokenizer.get_vocab(), model_max_length=longest, do_lower_case=True)


def _config_file(base: str) -> Path | None:
    path = Path(base).expanduser()
    if path.is_file():
        if path.suffix != ".json":
            raise UsageError(f"--base {base} is a file; give a config.json, a model folder, or a name")
        return path
    if path.is_dir() and (path / "config.json").is_file() and not any(path.glob("*.safetensors")):
        if any(path.glob("*.bin")):
            check_weights(str(path))
        return path / "config.json"
    return None


def _from_nothing(file: Path, texts: Sequence[str], vocabulary: int, seed: int) -> MaskedModel:
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        kind = settings.pop("model_type")
        config = AutoConfig.for_model(kind, **settings)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            file, None, f"no configuration of a model ({first_line(error)})", 'begin with {"model_type": "bert", ...}'
        ) from error
    _check_config(str(file), config)
    has_tokenizer = any(
        (file.parent / name).is_file() for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json")
    )
    longest = int(getattr(config, "max_position_embeddings", None) or 512)
    with quiet_transformers():
        if has_tokenizer:
            tokenizer = AutoTokenizer.from_pretrained(str(file.parent))
        else:
            size = min(vocabulary, settings.get("vocab_size", vocabulary))
            tokenizer = train_tokenizer(texts, size, longest)
        _check_tokenizer(str(file.parent), tokenizer)
        config.vocab_size, config.pad_token_id = len(tokenizer), tokenizer.pad_token_id
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                module = AutoModelForMaskedLM.from_config(config)
            except (ValueError, RuntimeError) as error:
                raise DataError(file, None, f"no such encoder ({first_line(error)})", "correct the sizes") from error
    return MaskedModel(module, tokenizer, None, longest_input(tokenizer, config, module))


def _check_config(source: str, config: Any) -> None:
    if getattr(config, "quantization_config", None):
        raise UsageError(f"the weights of {source} are quantised and cannot be trained; give the model before it was")
    if is_decoder(config) or getattr(config, "is_encoder_decoder", False):
        raise UsageError(f"{source} is a {config.model_type}, and masked tokens are predicted by encoders; give one")


def _check_tokenizer(source: str, tokenizer: Any) -> None:
    if tokenizer.mask_token_id is None or tokenizer.pad_token_id is None:
        raise UsageError(f"the tokenizer of {source} has no mask or no padding token; add it and save the tokenizer")
