"""The contract of every ranker: (query, documents) -> scores, and what a trainable one adds to it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import TypeVar

from lorank.progress import ProgressCallback
from lorank.ranking.scorers.texts import check_query, checked_documents

Documents = Sequence[str] | np.ndarray
"""Texts, or for feature rankers a float array [documents, features]."""


@dataclass(frozen=True)
class Ranked:
    """One ranked document: its ``index`` in the request, its ``score``, and its ``text``."""

    index: int
    score: float
    text: str


class Ranker(ABC):
    """Anything that scores documents for a query; ``score_pairs`` is the one method to write."""

    @abstractmethod
    def score_pairs(
        self,
        queries: Sequence[str],
        documents: Documents,
        pairs: np.ndarray,
        on_progress: ProgressCallback | None = None,
    ) -> np.ndarray:
        """Return float32 scores [n] of ``pairs`` int64 [n, 2] of positions in ``queries`` and ``documents``.

        Each query and document is prepared once, however many pairs it stands in; the result does not
        depend on the order of the pairs.

        Args:
            queries: The texts of the queries.
            documents: The texts of the documents, or their rows of features [documents, features].
            pairs: The int64 [n, 2] positions in ``queries`` and ``documents``, one row per pair.
            on_progress: It receives (done, total) while long work goes on.
        """

    def score(self, query: str, documents: Documents) -> np.ndarray:
        """Return one float32 score a document, in the order given; higher is more relevant.

        Raises UsageError where ``query`` is not one string, or ``documents`` are one string in place of a list.
        """
        check_query(query)
        documents = checked_documents(documents)
        count = len(documents)
        pairs = np.stack([np.zeros(count, np.int64), np.arange(count)], axis=1)
        return self.score_pairs([query], documents, pairs)

    def rank(self, query: str, documents: Sequence[str], top: int | None = None) -> list[Ranked]:
        """Return the documents best first (ties in the order given), at most ``top`` of them."""
        documents = checked_documents(documents)
        scores = self.score(query, documents)
        order = np.argsort(-scores, kind="stable")[:top]
        return [Ranked(int(i), float(scores[i]), documents[i]) for i in order]


class ScoresPrepared(Protocol):
    """A ranker that scores from what its ``prepare`` returned, so that texts which are scored again stay tokenised."""

    def score_prepared(self, inputs: Any, pairs: np.ndarray, on_progress: ProgressCallback | None = None) -> np.ndarray:
        """Return scores float32 [n] of ``pairs`` int64 [n, 2] of positions in the texts that ``prepare`` was given."""
        ...


def scores_prepared(ranker: Any) -> TypeGuard[ScoresPrepared]:
    """Return whether ``score_prepared`` gives what ``score_pairs`` does: no subclass has redefined the latter alone."""
    for kind in type(ranker).__mro__:
        if "score_prepared" in vars(kind):
            return True
        if "score_pairs" in vars(kind):
            return False
    return False


class FittedRanker(Ranker):
    """A ranker that learns from data and that a folder can hold: the contract of everything that `fit` returns."""

    kind: ClassVar[str]
    score_scale: ClassVar[str]
    """What a score is, as lorank.json states it: a logit, a similarity over a temperature."""
    base: str = ""
    """What the constructor was given as its base: a packaged name, a folder, or a Hub name; empty where it has none."""

    @property
    def trained_by_loop(self) -> bool:
        """Whether the training loop trains it by any loss of its scores; else its own ``fit(train, dev)`` does."""
        return False

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return the constructor's further arguments, JSON-ready."""

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write a self-contained folder from which ``load`` restores the same scores."""

    @classmethod
    @abstractmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a folder that ``save`` wrote."""


Inputs = TypeVar("Inputs", default=Any)


class TrainableRanker(FittedRanker, Generic[Inputs]):
    """A ranker with a torch module inside, which the training loop can drive.

    ``prepare`` turns texts (or features) into inputs once -- tokenising happens there and nowhere else --
    and ``forward`` scores a grid of lists from them.
    """

    module: nn.Module
    reference: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Opens a context within which the module computes as it did before it was adapted; set by whoever adapts it."""

    @property
    def trained_by_loop(self) -> bool:
        """Whether the training loop trains it by any loss of its scores; else its own ``fit(train, dev)`` does."""
        return True

    @abstractmethod
    def prepare(self, queries: Sequence[str], documents: Documents) -> Inputs:
        """Return the inputs (token ids, feature rows, ...) that ``forward`` indexes into."""

    @abstractmethod
    def forward(self, inputs: Inputs, queries: Tensor, documents: Tensor, mask: Tensor) -> Tensor:
        """Return differentiable scores [batch, list]; masked places hold 0.

        A text that occurs in several places of the grid is encoded once where the architecture allows it.

        Args:
            inputs: What ``prepare`` has made of the queries and documents.
            queries: The int64 [batch] positions in the queries that were given to ``prepare``.
            documents: The int64 [batch, list] positions in the documents that were given to ``prepare``.
            mask: The bool [batch, list] grid, True where there is a document.
        """

    @abstractmethod
    def head_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Yield (name within ``module``, parameter) of what the checkpoint did not bring and must be trained."""

    def scoring_budget(self) -> int:
        """Return how many tokens one forward pass of scoring may hold; rankers of texts know their own."""
        return 1 << 14

    def write_peer_files(self, folder: str | Path) -> None:
        """Write what other tools need beside the weights to load the folder; nothing where they need nothing more."""

    @property
    def device(self) -> torch.device:
        """The device of the module's parameters."""
        return next(self.module.parameters()).device
