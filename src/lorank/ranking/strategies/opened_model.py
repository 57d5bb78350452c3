"""What a strategy that looks into a model needs of it: vectors, scores, or a causal language model."""

from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, runtime_checkable

from torch import nn

from lorank.errors import UsageError
from lorank.ranking.judges import Judge
from lorank.ranking.judges.causal import CausalJudge
from lorank.ranking.judges.ranker_judge import RankerJudge
from lorank.ranking.scorers import BiEncoder, CausalRanker
from lorank.ranking.scorers.ranker import Ranker


@runtime_checkable
class Adapted(Protocol):
    """A ranker with an adapter around another, such as a tuned one."""

    ranker: Ranker

    def merge(self) -> None:
        """Write the adapter into the weights."""
        ...


@dataclass(frozen=True)
class CausalModel:
    """A causal language model and its tokenizer."""

    module: nn.Module
    tokenizer: Any


def model_of(judge: Judge) -> Judge | Ranker:
    """Return the ranker whose scores a judge answers by; of any other judge itself."""
    return judge.ranker if isinstance(judge, RankerJudge) else judge


def encoder_of(model: Judge | Ranker, strategy: str) -> BiEncoder:
    """Return the embedding model of a ranker, its adapter merged; raise UsageError where there is none."""
    inner = _inner(model)
    if isinstance(inner, BiEncoder):
        return inner
    _refuse(strategy, "an embedding model: give a bi-encoder, such as --ranker minilm", inner)


def causal_of(model: Judge | Ranker, strategy: str) -> CausalModel:
    """Return the causal language model of a ranker or a judge; raise UsageError where there is none."""
    inner = _inner(model)
    if isinstance(inner, CausalJudge):
        return CausalModel(inner.model, inner.tokenizer)
    if isinstance(inner, CausalRanker):
        return CausalModel(inner.module, inner.tokenizer)
    _refuse(strategy, "a causal language model: give --ranker smollm2, or --judge causal:BASE", inner)


def ranker_of(model: Judge | Ranker, strategy: str) -> Ranker:
    """Return the ranker that scores; raise UsageError for a judge that is asked."""
    if isinstance(model, Ranker) and getattr(_inner(model), "kind", "") != "judge":
        return model
    _refuse(strategy, "a ranker that scores pairs: give a cross-encoder or another, such as --ranker minilm", model)


def _inner(model: Judge | Ranker) -> Judge | Ranker:
    if not isinstance(model, Adapted):
        return model
    model.merge()
    return model.ranker


def _refuse(strategy: str, needed: str, model: Judge | Ranker) -> NoReturn:
    given = getattr(model, "kind", type(model).__name__)
    raise UsageError(f"strategy {strategy!r} needs {needed}; what is given is of kind {given}")
