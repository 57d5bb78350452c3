"""The views of a causal ranker: how the score of a prompt is read from what the model computes."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class ViewedRanker(Protocol):
    """What a view reads of a causal ranker: its model, the tokens that answer and their values, its label and beta."""

    module: Any
    answer_ids: list[int]
    answer_values: list[float]
    label: Any
    beta: float


def _answer_logits(ranker: ViewedRanker, given: dict[str, Any]) -> Tensor:
    """Return the logits [pairs, answers] of the answers' tokens where the reply begins."""
    logits: Tensor = ranker.module(**given, logits_to_keep=1, use_cache=False).logits[:, -1]
    return logits[:, ranker.answer_ids].float()


def _yes_no(ranker: ViewedRanker, given: dict[str, Any], answers: Tensor) -> Tensor:
    logits = _answer_logits(ranker, given)
    return logits[:, 0] - logits[:, 1] if logits.shape[1] > 1 else logits[:, 0]


def _expect(ranker: ViewedRanker, given: dict[str, Any], answers: Tensor) -> Tensor:
    logits = _answer_logits(ranker, given)
    return logits.softmax(1) @ torch.tensor(ranker.answer_values, device=logits.device)


def _head(ranker: ViewedRanker, given: dict[str, Any], answers: Tensor) -> Tensor:
    hidden = ranker.module.base_model(**given, use_cache=False).last_hidden_state[:, -1]
    logits: Tensor = ranker.module.score(hidden).float()
    return logits.squeeze(-1) if ranker.label is None else ranker.label.score(logits)


def _likelihood(ranker: ViewedRanker, given: dict[str, Any], answers: Tensor) -> Tensor:
    longest = int(answers.max())
    logits = ranker.module(**given, logits_to_keep=longest + 1, use_cache=False).logits[:, :-1].float()
    targets = given["input_ids"][:, -longest:]
    each = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)
    counted = torch.arange(longest, device=each.device) >= longest - answers.unsqueeze(1)
    return -ranker.beta * torch.where(counted, each, 0.0).sum(1)


READERS: dict[str, Callable[[ViewedRanker, dict[str, Any], Tensor], Tensor]] = {
    "yes-no": _yes_no,
    "expected": _expect,
    "head": _head,
    "log-ratio": _likelihood,
    "likelihood": _likelihood,
}
