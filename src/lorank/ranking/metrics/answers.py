r"""How alike a written answer is to the expected ones: exact match, token F1 and ROUGE-L; the best over several.

    EM = [normalised texts are equal],  F1 = 2PR / (P + R) over tokens,  ROUGE-L = the same over the longest common
    subsequence

Texts are normalised as SQuAD does: lower case, without punctuation and without a, an, the.

Papers: P. Rajpurkar et al., SQuAD, EMNLP 2016; C.-Y. Lin, ROUGE, 2004.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised_tokens(text: str) -> list[str]:
    """Return the tokens of a text as SQuAD compares them.

    >>> normalised_tokens("The  Eiffel Tower, Paris.")
    ['eiffel', 'tower', 'paris']
    """
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def exact_match(text: str, expected: Sequence[str]) -> float:
    """Return 1 where the answer is one of the expected ones, else 0.

    >>> exact_match("the Seine.", ["Rhine", "Seine"])
    1.0
    """
    return _best(lambda said, right: float(said == right), text, expected)


def token_f1(text: str, expected: Sequence[str]) -> float:
    """Return the F1 of the tokens, in any order.

    >>> token_f1("in Paris", ["Paris"])
    0.6667
    """
    return _best(lambda said, right: _f1(sum((Counter(said) & Counter(right)).values()), said, right), text, expected)


def rouge_l(text: str, expected: Sequence[str]) -> float:
    """Return the F1 of the longest common subsequence of tokens.

    >>> rouge_l("big old dog", ["old big dog"])
    0.6667
    """
    return _best(lambda said, right: _f1(_common(said, right), said, right), text, expected)


def _best(compare: Callable[[list[str], list[str]], float], text: str, expected: Sequence[str]) -> float:
    said = normalised_tokens(text)
    return max((compare(said, normalised_tokens(each)) for each in expected), default=0.0)


def _f1(common: int, said: Sequence[str], right: Sequence[str]) -> float:
    if not said and not right:
        return 1.0
    return 2 * common / (len(said) + len(right))


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for token in one:
        before = row
        row = [0]
        for place, against in enumerate(other):
            row.append(before[place] + 1 if token == against else max(before[place + 1], row[place]))
    return row[-1]
