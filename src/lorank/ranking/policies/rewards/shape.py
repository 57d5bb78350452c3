"""Rewards of a reply's shape, to be added to one of its answer: ``--reward rank-r1+length``.

    format      1 for one thought and one answer and nothing else, else 0
    length      -max(0, (words - limit) / limit), at least -1
    repetition  -(1 - distinct / all) over the reply's runs of four words

Papers: DeepSeek-AI, DeepSeek-R1, 2025 (format); Yeo et al., Demystifying Long Chain-of-Thought Reasoning in LLMs, 2025
(length, repetition); L. Arazi et al., Gazal-R1, 2025 (the sum of accuracy, format, length and repetition).
"""

from lorank.errors import UsageError
from lorank.ranking.losses.rewards import has_format
from lorank.ranking.policies.rewards.registry import Asked, reward


@reward("format", parts=("format",))
def form(text: str, asked: Asked) -> list[float]:
    """Return 1 for one thought and one answer.

    >>> form("<think>hm</think><answer>[1]</answer>", Asked("setwise", (1.0, 0.0)))
    [1.0]
    """
    return [float(has_format(text))]


@reward("length", parts=("length",))
def length(text: str, asked: Asked, *, limit: int = 256) -> list[float]:
    """Return minus the share by which a reply is longer than ``limit`` words, at least -1.

    >>> length("one two three", Asked("setwise", (1.0, 0.0)), limit=2)
    [-0.5]
    """
    if limit < 1:
        raise UsageError(f"limit must be 1 or above; got {limit}")
    return [-min(1.0, max(0.0, len(text.split()) / limit - 1))]


@reward("repetition", parts=("repetition",))
def repetition(text: str, asked: Asked, *, size: int = 4) -> list[float]:
    """Return minus the share of runs of ``size`` words that were written before.

    >>> repetition("a b a b a b", Asked("setwise", (1.0, 0.0)), size=2)
    [-0.6]
    """
    if size < 1:
        raise UsageError(f"size must be 1 or above; got {size}")
    words = text.split()
    runs = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    return [-round(1 - len(set(runs)) / len(runs), 6) if runs else 0.0]
