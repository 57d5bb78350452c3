"""Rewordings of queries: synonyms from a table, a word left out, another order of the words.

A table has one group of words that mean the same per line. The packaged one holds plain English; one of your own
domain says more (`--synonyms`).
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from lorank.errors import DataError
from lorank.ranking.robustness.perturbation import Around, perturbation
from lorank.reading import lines

PACKAGED = Path(__file__).with_name("synonyms.txt")
_WORD = re.compile(r"\w+")


def read_synonyms(path: str | Path | None = None) -> dict[str, tuple[str, ...]]:
    """Return the other words of each word's groups, from a file of groups, or from the packaged one.

    Raises:
        DataError: For a line with fewer than two words.

    >>> "quick" in read_synonyms()["fast"]
    True
    """
    found: dict[str, tuple[str, ...]] = {}
    for number, line in lines(str(path or PACKAGED)):
        words = [word.strip().lower() for word in re.split(r"[,;\t ]+", line.partition("#")[0]) if word.strip()]
        if not words:
            continue
        if len(words) < 2:
            raise DataError(str(path), number, "a group of one word", "write two words or more of one meaning per line")
        for word in words:
            found[word] = tuple(dict.fromkeys([*found.get(word, ()), *(each for each in words if each != word)]))
    return found


@lru_cache(maxsize=1)
def packaged_synonyms() -> Mapping[str, Sequence[str]]:
    """Return the packaged table."""
    return read_synonyms()


@perturbation("synonyms")
def synonyms(text: str, rng: np.random.Generator, around: Around) -> str:
    """Return the text with one word replaced by another of its group; without such a word, as it is.

    >>> synonyms("a fast car", np.random.default_rng(0), Around(synonyms={"fast": ["quick"]}))
    'a quick car'
    """
    table = packaged_synonyms() if around.synonyms is None else around.synonyms
    places = [match for match in _WORD.finditer(text) if match.group().lower() in table]
    if not places:
        return text
    match = places[int(rng.integers(len(places)))]
    choices = table[match.group().lower()]
    return text[: match.start()] + choices[int(rng.integers(len(choices)))] + text[match.end() :]


@perturbation("deletion")
def deletion(text: str, rng: np.random.Generator, around: Around) -> str:
    """Return the text without one of its words; a text of one word stays."""
    words = text.split()
    if len(words) < 2:
        return text
    del words[int(rng.integers(len(words)))]
    return " ".join(words)


@perturbation("order")
def order(text: str, rng: np.random.Generator, around: Around) -> str:
    """Return the text with its words in a random order."""
    words = text.split()
    return " ".join(words[i] for i in rng.permutation(len(words)))
