"""Losses by which language models become judges, and what a judge's scores teach a retriever.

- FIRST: on the logits s of the identifiers, in the order of the target ranks i = 1..n,
  ``sum_{i<j} 1/(i + j) log(1 + exp(s_j - s_i))``, added to the language-model loss.
- Full ranking: the language-model loss with the identifier of rank i weighted by ``w_i = 1 + 1/log2(i + 1)``
  (``order_loss`` over a whole reply of a model).
- Relevance feedback: the query's vector moves so that its similarities follow the judge's scores,
  ``min_q KL(softmax(s) || softmax(D q / t))``, and retrieves again.

Papers: Gangi Reddy et al., FIRST: Faster Improved Listwise Reranking with Single Token Decoding, 2024; Liu et al.,
Sliding Windows Are Not the End: Exploring Full Ranking with Long-Context Large Language Models, 2024.

*Deviations*: importance-weighted losses are divided by the sum of the weights: weights of 1 give the plain mean.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorank.errors import UsageError


def rank_weighted_ranknet(scores: Tensor) -> Tensor:
    """Return FIRST's ranking loss of ``scores`` [..., n], arranged in the target order, best first.

    >>> rank_weighted_ranknet(torch.tensor([0.0, 0.0]))   # log(2) / 3
    tensor(0.2310)
    """
    count = scores.shape[-1]
    i, j = torch.triu_indices(count, count, 1, device=scores.device)
    losses: Tensor = F.softplus(scores[..., j] - scores[..., i]) / (i + j + 2)
    return losses.sum(-1).mean()


def importance_weights(count: int) -> Tensor:
    """Return full ranking's weights 1 + 1/log2(i + 1) of the ranks i = 1..count.

    >>> importance_weights(3)
    tensor([2.0000, 1.6309, 1.5000])
    """
    return 1 + 1 / torch.log2(torch.arange(2, count + 2, dtype=torch.float32))


def importance_weighted_lm_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean cross-entropy of ``logits`` [tokens, vocabulary] against ``targets`` [tokens].

    ``weights`` [tokens] are those of the ranks at identifier tokens and 1 elsewhere.
    """
    if targets.shape != weights.shape or logits.shape[:-1] != targets.shape:
        raise UsageError(
            f"one target and one weight a token: {tuple(logits.shape)}, {tuple(targets.shape)}, {tuple(weights.shape)}"
        )
    each = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none")
    return (each * weights.flatten()).sum() / weights.sum()


def order_loss(
    model: nn.Module, tokenizer: Any, prompt: str, order: Sequence[int], *, important: bool = True
) -> Tensor:
    """Return full ranking's loss of one order, with its graph: one pass over the prompt and the whole reply.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        prompt: What a judge is shown, as ``CausalJudge.prompt`` writes it.
        order: Places of the documents in the prompt, best first; the reply is [2] > [1] > [3] and its end.
        important: Weigh the tokens of the identifier of rank i by w_i; else this is the plain language-model loss.
    """
    weights_of = importance_weights(len(order)).tolist()
    reply: list[int] = []
    weights: list[float] = []
    for rank, place in enumerate(order):
        for text, weight in ((" > " if rank else "", 1.0), (f"[{place + 1}]", weights_of[rank] if important else 1.0)):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
            reply += ids
            weights += [weight] * len(ids)
    reply, weights = [*reply, tokenizer.eos_token_id], [*weights, 1.0]
    asked = tokenizer(prompt, add_special_tokens=not getattr(tokenizer, "chat_template", None))["input_ids"]
    device = next(model.parameters()).device
    logits = model(torch.tensor([[*asked, *reply]], device=device), use_cache=False).logits[0, -len(reply) - 1 : -1]
    return importance_weighted_lm_loss(
        logits.float(), torch.tensor(reply, device=device), torch.tensor(weights, device=device)
    )


def relevance_feedback(
    query: Tensor, documents: Tensor, scores: Tensor, *, temperature: float = 1.0, steps: int = 50, rate: float = 0.1
) -> Tensor:
    """Return ``query`` [dim] moved towards a judge's ``scores`` [n] of ``documents`` [n, dim], unit length if it was.

    Args:
        query: The vector that retrieved the documents.
        documents: Their vectors.
        scores: The judge's scores, such as FIRST's logits.
        temperature: Of the similarities.
        steps: Gradient steps.
        rate: Their size.
    """
    target = scores.float().softmax(0)
    moved = query.float().clone()
    for _ in range(steps):
        shares = (documents.float() @ moved / temperature).softmax(0)
        moved = moved - rate * (shares - target) @ documents.float() / temperature
    unit = torch.isclose(query.norm(), torch.ones((), dtype=query.dtype))
    return (F.normalize(moved, dim=0) if unit else moved).to(query.dtype)
