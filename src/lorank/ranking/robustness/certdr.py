r"""CertDR: documents that stay out of the first K whatever synonyms their authors choose.

The smoothed score of a document is its mean over random substitutions: each word w becomes a word of its set P_w (its
synonyms and itself), drawn uniformly. If an attacker replaces w by w' out of its synonyms, the two sets of draws
differ by 1 - \tau at most,

    \tau_w = min_{w'} |P_w \cap P_{w'}| / max(|P_w|, |P_{w'}|),     |s(q, d') - s(q, d)| <= 1 - \prod_{R smallest}
    \tau_w

for up to R replaced words and base scores in [0, 1]. With means of n draws, Hoeffding's bound and a union over the m
documents, e = \sqrt{\ln(2 m / \delta) / (2 n)}, no document outside the first K can enter it if for each of them

    min_{K} s - e  >  s(q, d) + e + 1 - \prod_{R smallest} \tau_w.

Paper: C. Wu et al., Certified Robustness to Word Substitution Ranking Attack for Neural Ranking Models, CIKM 2022.

*Deviations*: the published code divides by |P_w| alone, which is no total variation where the sets differ in size; it
takes no union over documents; and it multiplies over all words of a document, so that long ones never certify, where
the radius R is stated here.
"""

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lorank.catalogue import catalogued
from lorank.errors import UsageError

Scores = Callable[[Sequence[str]], np.ndarray]
"""From texts of documents to scores in [0, 1], for one query."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Substitutions:
    """The sets P_w: each word's synonyms and itself; a word that is not listed stands for itself alone."""

    table: Mapping[str, Sequence[str]]

    def of(self, word: str) -> tuple[str, ...]:
        """Return the words that may stand for ``word``, itself first."""
        return tuple(dict.fromkeys([word, *self.table.get(word, ())]))

    def overlap(self, word: str) -> float:
        """Return tau of a word: the least overlap of its draws with those of a word that an attacker may choose."""
        own = set(self.of(word))
        return min(
            (len(own & set(self.of(other))) / max(len(own), len(self.of(other))) for other in self.of(word)),
            default=1.0,
        )


def split_words(text: str) -> list[str]:
    """Return the words and what stands between them, in order; joined they are the text, in lower case."""
    return re.findall(r"\w+|\W+", text.lower())


def draw(text: str, substitutions: Substitutions, rng: np.random.Generator) -> str:
    """Return the text with every word drawn from its set."""
    parts = split_words(text)
    for place, part in enumerate(parts):
        choices = substitutions.of(part) if _WORD.fullmatch(part) else (part,)
        if len(choices) > 1:
            parts[place] = choices[int(rng.integers(len(choices)))]
    return "".join(parts)


def largest_shift(text: str, substitutions: Substitutions, radius: int) -> float:
    """Return the bound on the change of the smoothed score for up to ``radius`` replaced words, 0 to 1.

    >>> largest_shift("a fast car", Substitutions({"fast": ["quick"], "quick": ["fast"]}), 1)   # the same set: no shift
    0.0
    """
    overlaps = sorted(substitutions.overlap(word) for word in _WORD.findall(text.lower()))
    return 1.0 - math.prod(overlaps[:radius])


def attacks(text: str, substitutions: Substitutions, radius: int) -> list[str]:
    """Return every text that an attacker may write: up to ``radius`` words replaced. For short texts only."""
    parts = split_words(text)
    places = [i for i, part in enumerate(parts) if _WORD.fullmatch(part) and len(substitutions.of(part)) > 1]
    found = []
    for count in range(min(radius, len(places)) + 1):
        for chosen in itertools.combinations(places, count):
            for words in itertools.product(*(substitutions.of(parts[i])[1:] for i in chosen)):
                changed = list(parts)
                for i, word in zip(chosen, words, strict=True):
                    changed[i] = word
                found.append("".join(changed))
    return found


@dataclass(frozen=True)
class Certificate:
    """The largest radius at which the first K are certain to stay, -1 where not even the order without attack is; the
    ``margin`` at radius 0, and the smoothed scores."""

    radius: int
    margin: float
    smoothed: np.ndarray


@catalogued(
    "certdr",
    area="robust",
    title="Certified Robustness to Word Substitution Ranking Attack for Neural Ranking Models",
    reach="it judges and trains nothing, so it has no recipe key: lorank stress RANKER --data D --certify 3",
)
def certify(
    scores: Scores,
    documents: Sequence[str],
    substitutions: Substitutions,
    *,
    top: int,
    most: int,
    rng: np.random.Generator,
    draws: int = 1000,
    failure: float = 0.05,
) -> Certificate:
    """Return the largest radius, up to ``most``, at which no document can enter the first ``top`` by substitutions.

    Args:
        scores: The base ranker for one query, with scores in [0, 1].
        documents: The texts of the query's candidates, more than ``top``.
        substitutions: The words that may stand for each other.
        top: K, the number of places that are defended, 1 or more.
        most: The largest radius that is asked about, 0 or more.
        rng: It draws the substitutions.
        draws: n, how many texts are scored for each document.
        failure: The probability, above 0 and below 1, that a certificate is wrong by the luck of the draws.

    Raises:
        UsageError: For no document outside the first ``top``, and base scores outside of [0, 1].
    """
    if not 0 < top < len(documents):
        raise UsageError(f"there must be more documents than the {top} places that are defended; got {len(documents)}")
    if not 0 < failure < 1 or draws < 1:
        raise UsageError(f"the failure lies between 0 and 1 and draws are 1 or more; got {failure} and {draws}")
    smoothed = np.array([smooth(scores, text, substitutions, rng, draws) for text in documents])
    error = math.sqrt(math.log(2 * len(documents) / failure) / (2 * draws))
    order = np.argsort(-smoothed, kind="stable")
    inside = float(smoothed[order[top - 1]]) - error
    radius = -1
    for asked in range(most + 1):
        worst = max(float(smoothed[i]) + error + largest_shift(documents[i], substitutions, asked) for i in order[top:])
        if inside <= worst:
            break
        radius = asked
    outside = float(smoothed[order[top]]) + error
    return Certificate(radius, inside - outside, smoothed)


def smooth(scores: Scores, text: str, substitutions: Substitutions, rng: np.random.Generator, draws: int) -> float:
    """Return the mean score of ``draws`` random substitutions of a text; of one without choices, its own."""
    if all(len(substitutions.of(word)) == 1 for word in _WORD.findall(text.lower())):
        texts = [text]
    else:
        texts = [draw(text, substitutions, rng) for _ in range(draws)]
    values = np.asarray(scores(texts), np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise UsageError("a certificate needs base scores between 0 and 1; bring them there by a calibration")
    return float(values.mean())
