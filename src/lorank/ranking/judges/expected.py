r"""The expected score of a written reply: ERank's score, at the place where the reply gives its integer.

    \bar{s} = \sum_{s=0}^{10} s P(s),   P(10) = P(1) P(0 | 1) where 10 is no token of its own

P is the distribution of the token at that place, over those that begin a score. It tells documents apart to which one
integer was given.

Paper: Y. Cai et al., ERank: Fusing Supervised Fine-Tuning and Reinforcement Learning for Effective and Efficient Text
Reranking, 2025.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lorank.ranking.judges.reading import final_part

_INTEGER = re.compile(r"\d+")
_SPACES = ("", " ")


def score_place(tokenizer: Any, reply: Sequence[int]) -> int | None:
    """Return how many tokens of a reply stand before its score; None where it gives none.

    Args:
        tokenizer: The tokenizer that wrote it.
        reply: The tokens of the reply.
    """
    text = tokenizer.decode(reply, skip_special_tokens=True)
    said = final_part(text)
    found = None if said is None else _INTEGER.search(said)
    if said is None or found is None:
        return None
    begin = text.rindex(said) + found.start()
    for place in range(len(reply)):
        if len(tokenizer.decode(reply[: place + 1], skip_special_tokens=True).rstrip()) > begin:
            return place
    return None


def score_tokens(tokenizer: Any, like: int) -> dict[int, int]:
    """Return the token of each score from 0 to 10 that has one of its own, spelt with a space before it as ``like`` is.

    Args:
        tokenizer: The tokenizer.
        like: The token by which the reply began its score.
    """
    for space in _SPACES:
        found = {}
        for score in range(11):
            ids = tokenizer.encode(f"{space}{score}", add_special_tokens=False)
            if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
                found[score] = int(ids[0])
        if like in found.values():
            return found
    return {}


@torch.inference_mode()
def expected_scores(
    next_logits: Callable[[Sequence[list[int]]], Tensor],
    tokenizer: Any,
    prompts: Sequence[list[int]],
    replies: Sequence[list[int]],
) -> list[float | None]:
    """Return the expected score of each reply, None where it has no score that begins with a token of its own.

    Args:
        next_logits: From tokens to the logits of the next, float32 [texts, vocabulary].
        tokenizer: The tokenizer.
        prompts: The tokens of the prompts.
        replies: The tokens of the replies.
    """
    found: list[float | None] = [None] * len(replies)
    rows, given, tokens = [], [], []
    for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        place = score_place(tokenizer, reply)
        known = {} if place is None else score_tokens(tokenizer, reply[place])
        if known:
            rows.append(row)
            given.append([*prompt, *reply[:place]])
            tokens.append(known)
    if not rows:
        return found
    ten = _chance_of_ten(next_logits, given, tokens)
    for row, logits, known, zero in zip(rows, next_logits(given), tokens, ten, strict=True):
        shares = logits[list(known.values())].softmax(0).tolist()
        expected = sum(score * share for score, share in zip(known, shares, strict=True))
        more = 0.0 if zero is None else 9 * zero * shares[list(known).index(1)]
        found[row] = expected + more
    return found


def _chance_of_ten(
    next_logits: Callable[[Sequence[list[int]]], Tensor],
    given: Sequence[list[int]],
    tokens: Sequence[dict[int, int]],
) -> list[float | None]:
    """Return P(0 | 1) of each row, None where 10 is a token of its own or 1 is none."""
    split = [row for row, known in enumerate(tokens) if 10 not in known and {0, 1} <= set(known)]
    chances: list[float | None] = [None] * len(given)
    if split:
        after = next_logits([[*given[row], tokens[row][1]] for row in split]).softmax(1)
        for row, shares in zip(split, after, strict=True):
            chances[row] = float(shares[tokens[row][0]])
    return chances
