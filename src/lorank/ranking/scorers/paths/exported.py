"""What the exported paths share: a classifier as a plain function of padded tensors, and rounded lengths.

Runtimes that compile a graph recompile for shapes that they have not seen; lengths rounded up to a multiple of 16
keep the number of shapes small.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from lorank.ranking.scorers.cross_encoder import CrossEncoder
from lorank.ranking.scorers.paths.path import Logits
from lorank.ranking.scorers.tokens import Ragged

ROUND_TO = 16
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class TensorsToLogits(nn.Module):
    """A classifier with positional tensors in and logits [sequences, 1] out."""

    def __init__(self, ranker: CrossEncoder) -> None:
        super().__init__()
        self.model, self.ranker, self.takes_types = ranker.module, ranker, ranker.takes_types

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Return the logits."""
        padded = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self.takes_types and token_type_ids is not None:
            padded["token_type_ids"] = token_type_ids
        return self.ranker.select_scores(self.ranker.all_logits(padded, attention_mask.sum(1))).unsqueeze(-1)


def input_names(ranker: CrossEncoder) -> tuple[str, ...]:
    """Return the names of the tensors that the model is given."""
    return INPUTS if ranker.takes_types else INPUTS[:2]


def example(ranker: CrossEncoder) -> tuple[Tensor, ...]:
    """Return inputs of two sequences of unlike length, to trace with."""
    ids = torch.full((2, 2 * ROUND_TO), 5, dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, ROUND_TO:] = 0
    return (ids, mask, torch.zeros_like(ids))[: len(input_names(ranker))]


def arrays(ranker: CrossEncoder, batch: Ragged) -> dict[str, np.ndarray]:
    """Return a batch as padded int64 arrays by name, its width rounded up."""
    tensors = batch.pad(ranker.tokenizer.pad_token_id, torch.device("cpu"), with_types=ranker.takes_types)
    width = tensors["input_ids"].shape[1]
    wider = min(-(-width // ROUND_TO) * ROUND_TO, ranker.max_length) - width
    fill = {"input_ids": ranker.tokenizer.pad_token_id}
    return {
        name: np.pad(tensor.numpy().astype(np.int64), ((0, 0), (0, max(wider, 0))), constant_values=fill.get(name, 0))
        for name, tensor in tensors.items()
    }


def make_scorer(ranker: CrossEncoder, run: Callable[[dict[str, np.ndarray]], np.ndarray]) -> Logits:
    """Return token sequences -> float32 logits, given what turns named arrays into logits [sequences, 1]."""
    return lambda batch: np.asarray(run(arrays(ranker, batch)), np.float32).reshape(-1)


@contextmanager
def silent(*names: str) -> Iterator[None]:
    """Within it these loggers and Python's warnings tell nothing below an error."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
