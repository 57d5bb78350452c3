"""What rankers built on a pretrained encoder share: tokens, batches, number format, saving."""

import logging
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
import torch
from torch import nn

from lorank.errors import LorankError, UsageError
from lorank.ranking.scorers.folders import (
    PROBE_DOCUMENTS,
    PROBE_QUERIES,
    check_same_scores,
    read_whole,
    saved_options,
    write_card,
    written_whole,
)
from lorank.ranking.scorers.precision import Dtype, chosen_dtype
from lorank.ranking.scorers.pretrained import Pretrained, longest_input, quiet_transformers, takes_token_types
from lorank.ranking.scorers.ranker import Inputs, TrainableRanker
from lorank.ranking.scorers.tokens import Template

logger = logging.getLogger("lorank")

Long = Literal["truncate", "max", "first", "mean", "titled"]
"""What happens to a document that is too long: its end is cut off, or it is split into overlapping passages and
gets the best, the first, or the mean of their scores (Dai & Callan 2019, MaxP, FirstP, AvgP); "titled" is the best with
the document's title before each, and of bi-encoders alone (`lorank.ranking.scorers.titled`)."""


@dataclass(frozen=True)
class Truncation:
    """How many of ``texts`` have more than ``limit`` tokens, and how many tokens the longest has."""

    texts: int
    truncated: int
    longest: int
    limit: int

    def __str__(self) -> str:
        return (
            f"{self.truncated} of {self.texts} documents have more than {self.limit} tokens "
            f"(the longest {self.longest})"
        )


def check_head_is_there(ranker: Any, brought: Iterable[str], where: str | Path) -> None:
    """Raise LorankError where an adapter that ``brought`` some modules lacks a head that the base does not have.

    Args:
        ranker: The base; ``new_parameters`` of a ranker of texts are what its checkpoint lacks.
        brought: Paths of the modules that the adapter trained or changed.
        where: The adapter's folder, for the error.
    """
    paths = tuple(f"{path}." for path in brought)
    lost = [name for name in getattr(ranker, "new_parameters", ()) if not name.startswith(paths)]
    if lost:
        raise LorankError(
            f"{where} has lost its scoring head: neither it nor the base {ranker.base} holds {lost[0]}, and every "
            "score would be the same; save the adapter again, with its head"
        )


def check_head_is_trained(ranker: Any) -> None:
    """Raise UsageError for a ranker whose head nobody has trained, with which every score is 0."""
    blank = ranker.blank_head() if isinstance(ranker, TextRanker) else None
    if blank is not None:
        raise UsageError(
            f"{ranker.base} has no scoring head of its own ({blank} is new and 0), so that every score would be 0.0; "
            "train it first (lorank train), name an adapter that brings a head, or give a model with one; "
            "or read it as an encoder, whose vectors are compared (--kind bi-encoder)"
        )


class TextRanker(TrainableRanker[Inputs]):
    """A trainable ranker on a pretrained encoder; subclasses say how texts become scores.

    ``takes_types`` is True where the model is given token types.
    ``dtype`` is the format of scoring only (float32, bfloat16, or auto: what this machine runs fastest);
    training is always float32. ``token_budget`` bounds the tokens of one scoring batch.
    """

    source: str
    """The folder or Hub name that the weights came from."""
    longest: int
    """The most tokens that the model takes in."""
    max_length: int
    overlap: int = 0
    dtype: Dtype = "float32"
    long: Long = "truncate"
    longs: ClassVar[tuple[str, ...]] = tuple(name for name in get_args(Long) if name != "titled")
    """What ``long`` may be."""
    reports_truncation: bool = True
    """Whether documents that are cut are counted in the log; that is done once."""

    def _open(
        self,
        base: Pretrained,
        *,
        max_length: int,
        dtype: Dtype,
        long: Long,
        overlap: int | None,
        token_budget: int | None,
    ) -> None:
        """Keep the parts of a loaded base and check the options."""
        self.base, self.new_parameters = base.name, base.new
        self.module, self.tokenizer = base.module, base.tokenizer
        self.takes_types = takes_token_types(base.tokenizer, base.module)
        self.template = Template.of(base.tokenizer, with_types=self.takes_types)
        if getattr(base.tokenizer, "pad_token_id", None) is None:
            raise UsageError(f"the tokenizer of {base.source} has no padding token; add one and save it again")
        self.source, self.longest = base.source, longest_input(base.tokenizer, base.module.config, base.module)
        self.token_budget = token_budget
        self.read_with(max_length=max_length, dtype=dtype, long=long, overlap=overlap)

    def read_with(
        self,
        *,
        max_length: int | None = None,
        long: Long | None = None,
        overlap: int | None = None,
        dtype: Dtype | None = None,
    ) -> None:
        """Set how texts are read from now on.

        None leaves a setting, and gives ``overlap`` an eighth of a passage where ``max_length`` is new.

        Args:
            max_length: The most tokens that are read at once, from 8 to what the model takes in.
            long: It says what happens to a document that is too long.
            overlap: The number of tokens that neighbouring passages share, below half of a passage.
            dtype: The number format of scoring.

        Raises:
            UsageError: If a setting is out of its range.
        """
        length = self.max_length if max_length is None else max_length
        if not 8 <= length <= self.longest:
            raise UsageError(f"max_length={length} must be from 8 to {self.longest}, what {self.source} can take in")
        if dtype is not None and dtype not in get_args(Dtype):
            raise UsageError(f"dtype {dtype!r}: choose one of {', '.join(get_args(Dtype))}")
        if long is not None and long not in self.longs:
            other = f"a {self.kind} does not read so; " if long in get_args(Long) else ""
            raise UsageError(f"long={long!r}: {other}choose one of {', '.join(self.longs)}")
        passage = self.longest_passage(length, long or self.long)
        if overlap is None:
            overlap = passage // 8 if max_length is not None else self.overlap
        if not 0 <= overlap < passage // 2:
            raise UsageError(f"overlap={overlap} must be from 0 to less than half of the {passage} tokens of a passage")
        self.max_length, self.overlap = length, overlap
        self.dtype, self.long = dtype or self.dtype, long or self.long

    def longest_passage(self, max_length: int, long: Long) -> int:
        """Return the most tokens of a passage of a document that is read as ``long`` says."""
        return max_length

    def scoring_dtype(self) -> torch.dtype:
        """Return the format in which scores are computed on the module's device."""
        return chosen_dtype(self.dtype, self.device)

    def scoring_budget(self) -> int:
        """Return the tokens of one scoring batch: small enough for a CPU's cache, large enough for a GPU."""
        return self.token_budget or (2048 if self.device.type == "cpu" else 65536)

    def head_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Yield (name, parameter) of what the checkpoint did not bring and must be trained."""
        present = dict(self.module.named_parameters())
        for name in self.new_parameters:
            if name in present:
                yield name, present[name]

    def blank_head(self) -> str | None:
        """Return the name of a head that nobody has trained, with which every score is 0; None where there is none."""
        for name, parameter in self.head_parameters():
            if name.endswith("weight") and parameter.dim() == 2 and not bool(parameter.detach().any()):
                return name
        return None

    @abstractmethod
    def truncation(self, queries: Sequence[str], documents: Sequence[str]) -> Truncation:
        """Count the documents that are longer than the model takes in."""

    @abstractmethod
    def write_peer_files(self, folder: str | Path) -> None:
        """Write what sentence-transformers reads, so that it gives the same scores."""

    def save(self, folder: str | Path) -> None:
        """Write the model folder, re-open it, and compare scores; nothing appears in ``folder`` if they differ."""
        with written_whole(folder) as draft:
            with quiet_transformers():
                self.module.save_pretrained(draft)
                self.tokenizer.save_pretrained(draft)
            self.write_peer_files(draft)
            write_card(draft, self.kind, self.options(), self.score_scale)
            check_same_scores(self.probe(), type(self).load(draft).probe(), Path(folder))

    def probe(self) -> np.ndarray:
        """Return float32 scores of a few fixed pairs, in float32 whatever ``dtype`` says."""
        asked, self.dtype = (self.dtype, self.reports_truncation), "float32"
        self.reports_truncation = False
        try:
            return np.concatenate([self.score(query, PROBE_DOCUMENTS) for query in PROBE_QUERIES])
        finally:
            self.dtype, self.reports_truncation = asked

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a folder that ``save`` wrote; raise when its checkpoint is not complete."""
        return read_whole(folder, cls.kind, cls._from_card)

    @classmethod
    def _from_card(cls, folder: Path, card: dict[str, Any]) -> Self:
        ranker = cls(str(folder), **saved_options(card))
        if list(ranker.head_parameters()):
            raise LorankError(f"{folder} lacks weights, such as {ranker.new_parameters[0]}; save the ranker again")
        return ranker

    def report_truncation(self, found: Truncation) -> None:
        """Log how many documents were cut, the first time that any were: a strategy scores a few at a time."""
        if found.truncated and self.long == "truncate" and self.reports_truncation:
            self.reports_truncation = False
            logger.info(
                "%s and were cut; long='max' (--long max, or titled where they have titles) scores them by passages",
                found,
            )
