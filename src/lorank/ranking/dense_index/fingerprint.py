"""What tells the vectors of one bi-encoder from those of another: a hash of its weights, its words and its reading."""

import hashlib
import json

import torch

from lorank.ranking.scorers.bi_encoder import BiEncoder

NOT_OF_VECTORS = ("temperature", "dtype", "passage", "adapted")
"""Options on which the vectors of documents do not depend, or in their last digits alone."""


def fingerprint_encoder(encoder: BiEncoder) -> str:
    """Return a hexadecimal SHA-256 of all that the vectors of ``encoder`` depend on.

    Of an encoder whose adapter is for queries alone it is that of its base: so are the vectors of documents. Call it
    outside of `lorank.tuned.ranker.merged`: a merged adapter leaves other digits in the weights.

    Args:
        encoder: The bi-encoder, with its adapter where it has one.
    """
    state = hashlib.sha256()
    options = {name: value for name, value in encoder.options().items() if name not in NOT_OF_VECTORS}
    state.update(json.dumps(options, sort_keys=True, default=str).encode())
    backend = getattr(encoder.tokenizer, "backend_tokenizer", None)
    state.update(repr(encoder.tokenizer).encode() if backend is None else backend.to_str().encode())
    tensors = {_plain_name(name): value for name, value in encoder.module.state_dict().items()}
    if encoder.adapted == "queries":
        tensors = {name: value for name, value in tensors.items() if ".forms." not in name}
    for number, layer in enumerate(encoder.vector_modules.layers):
        state.update(type(layer).__name__.encode())
        tensors |= {f"vector_modules.{number}.{name}": value for name, value in layer.state_dict().items()}
    for name in sorted(tensors):
        value = tensors[name]
        if not isinstance(value, torch.Tensor):
            continue
        plain = value.detach().cpu().contiguous()
        state.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
        state.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    return state.hexdigest()


def _plain_name(name: str) -> str:
    """Return the name that a weight has where no adapter wraps its layer."""
    return name.replace(".base.", ".")
