"""The three shapes of an answer, made from scores in the order of the request."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel
from scipy.special import expit

from lorank.serving.requests.schemas import Asked, Text

SEARCH_UNIT = 100
"""Documents that Cohere counts as one search unit."""


@dataclass(frozen=True)
class Reranked:
    """The scores of one request, float32 in its order, with probabilities where the model has a calibration.

    ``above`` says which documents are at its certified threshold or above it, None where it has none.
    """

    scores: np.ndarray
    probabilities: np.ndarray | None
    tokens: int
    truncated: int
    above: np.ndarray | None = None

    def scale(self, asked: Asked) -> str:
        """Return what the numbers of the answer are: "probability" or "raw"."""
        return "raw" if asked.raw or self.probabilities is None else "probability"

    def values(self, asked: Asked) -> np.ndarray:
        """Return the numbers of the answer, float32."""
        return self.scores if asked.raw or self.probabilities is None else self.probabilities

    def order(self, asked: Asked) -> list[int]:
        """Return the positions best first, those below the asked threshold left out; ties stay as requested."""
        order = np.argsort(-self.scores, kind="stable")
        if asked.certified and self.above is not None:
            order = order[self.above[order]]
        if asked.threshold is not None:
            order = order[self.values(asked)[order].astype(np.float64) >= asked.threshold]
        return [int(i) for i in order[: asked.top_n]]


class JinaResult(BaseModel):
    """One document of the answer."""

    index: int
    relevance_score: float
    document: Text | None = None


class JinaAnswer(BaseModel):
    """The answer of Jina, vLLM and llama.cpp."""

    id: str
    model: str
    usage: dict[str, int]
    results: list[JinaResult]


class CohereAnswer(BaseModel):
    """The answer of Cohere's version 2."""

    id: str
    results: list[JinaResult]
    meta: dict[str, Any]


class TeiResult(BaseModel):
    """One text of the bare list that TEI answers."""

    index: int
    score: float
    text: str | None = None


def number(value: Any) -> float:
    """Return a float32 as the shortest decimal that reads back as the same float32.

    >>> number(np.float32(0.1))
    0.1
    """
    return float(str(np.float32(value)))


def rows(asked: Asked, reranked: Reranked) -> list[dict[str, Any]]:
    """Return the results of Jina's and Cohere's shapes."""
    shown = reranked.values(asked)
    return [result(asked, i, shown[i]) for i in reranked.order(asked)]


def result(asked: Asked, index: int, score: Any) -> dict[str, Any]:
    """Return one result."""
    row: dict[str, Any] = {"index": index, "relevance_score": number(score)}
    if asked.shows:
        row["document"] = {"text": asked.documents[index]}
    return row


def jina(asked: Asked, reranked: Reranked, model: str, request_id: str) -> dict[str, Any]:
    """Return the answer in the shape of Jina, vLLM and llama.cpp.

    Args:
        asked: The request.
        reranked: Its scores.
        model: What the model is called in answers.
        request_id: The id of the request.
    """
    usage = {"total_tokens": reranked.tokens, "prompt_tokens": reranked.tokens}
    return {"id": request_id, "model": model, "usage": usage, "results": rows(asked, reranked)}


def cohere(asked: Asked, reranked: Reranked, model: str, request_id: str, warnings: list[str]) -> dict[str, Any]:
    """Return the answer in the shape of Cohere's version 2.

    Args:
        asked: The request.
        reranked: Its scores.
        model: What the model is called; this shape does not name it.
        request_id: The id of the request.
        warnings: Sentences for the client, such as that documents were cut.
    """
    units = -(-len(asked.documents) // SEARCH_UNIT)
    meta = {
        "api_version": {"version": "2"},
        "billed_units": {"search_units": units},
        "tokens": {"input_tokens": reranked.tokens, "output_tokens": 0},
        "warnings": warnings,
    }
    return {"id": request_id, "results": rows(asked, reranked), "meta": meta}


def tei(asked: Asked, reranked: Reranked) -> list[dict[str, Any]]:
    """Return TEI's bare list; as there, scores that are not asked raw go through the logistic function."""
    shown = reranked.values(asked)
    if not asked.raw and reranked.probabilities is None:
        shown = expit(shown.astype(np.float64))
    texts = asked.documents if asked.shows else None
    return [
        {"index": i, "score": number(shown[i])} | ({"text": texts[i]} if texts else {}) for i in reranked.order(asked)
    ]


def line(row: dict[str, Any]) -> bytes:
    """Return one JSON line."""
    return (json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n").encode()
