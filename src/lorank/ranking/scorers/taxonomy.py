r"""The taxonomy of neural rankers, read off the rankers: on which side of each axis of architecture a scorer stands.

    symmetry       symmetric: two texts can change places and the score stays as it is; asymmetric: it does not
    focus          representation: each text is encoded apart; interaction: the two are read together
    granularity    multi: a score is made of units of several sizes, of several passages of a document, or of layers
                   that read parts apart first and then together; single: none of these

Symmetry is the survey's own definition, and it is measured: every pair of probe texts is scored both ways. Focus is
whether the ranker can ``encode`` a text by itself. The fourth axis, learning, belongs to losses and is measured on
their gradients (:mod:`lorank.ranking.losses.core.learning`). Every cell has a scorer, for ``BothWays`` makes any
symmetric; `benchmarks/rankers.md` compares one model of each cell under a loss of each learning.

Paper: J. Guo, Y. Fan, L. Pang, L. Yang, Q. Ai, H. Zamani, C. Wu, W. B. Croft, X. Cheng, A Deep Look into Neural Ranking
Models for Information Retrieval, Information Processing & Management 2020, arXiv:1903.06902.

*Deviations*: granularity is decided by a rule of our own, for the survey's models of several granularities (n-grams,
layers of convolutions) are older than pretrained transformers: a whole passage counts as the unit of the survey's
horizontal granularity, layers that read parts apart below and together above as its vertical one. That a transformer
has many layers, or word pieces, does not make it one of several granularities. The survey's axes are put to the model
as it stands: a bi-encoder whose two prefixes differ is asymmetric, though its weights are shared.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np

from lorank.catalogue import catalogued
from lorank.errors import UsageError, unknown_name
from lorank.ranking.losses.core.learning import LEARNING
from lorank.ranking.scorers.bi_encoder import BiEncoder
from lorank.ranking.scorers.both_ways import BothWays
from lorank.ranking.scorers.causal import CausalRanker
from lorank.ranking.scorers.cross_encoder import CrossEncoder
from lorank.ranking.scorers.pyramid import PyramidEncoder
from lorank.ranking.scorers.ranker import Ranker
from lorank.ranking.scorers.replies import ReplyRanker
from lorank.ranking.scorers.text_ranker import TextRanker

AXES: dict[str, tuple[str, ...]] = {
    "symmetry": ("symmetric", "asymmetric"),
    "focus": ("representation", "interaction"),
    "granularity": ("single", "multi"),
    "learning": LEARNING,
}
"""Each axis and the places on it; the first three are a scorer's, the last is a loss's."""

Cell = tuple[str, str, str]
CELLS: tuple[Cell, ...] = tuple(product(AXES["symmetry"], AXES["focus"], AXES["granularity"]))

PROBES = (
    "sorting a list of words in place",
    "the moon orbits the earth\nand the earth orbits the sun",
    "how are documents ordered?",
    "a list of words, " * 150 + "and at the end of them the moon",
)
"""Texts of one line and of two, and one that is longer than most encoders take in at once."""


@dataclass(frozen=True)
class Scorer:
    """How a scorer is made of a base.

    Args:
        base: What it starts from: ``encoder`` or ``causal``.
        kind: The ranker's class.
        options: The class's own arguments; heads are drawn at random, for a new head scores 0 everywhere.
        both_ways: Whether its scores are the means of both ways.
        probes: Texts that it can read as queries and as documents.
    """

    base: str
    kind: type[TextRanker[Any]]
    options: Mapping[str, Any] = field(default_factory=dict)
    both_ways: bool = False
    probes: tuple[str, ...] = PROBES

    def build(self, base: str | Path) -> Ranker:
        """Return the ranker on ``base``: a packaged name, a folder, or a Hub name."""
        ranker = self.kind(base, **self.options)
        return BothWays(ranker) if self.both_ways else ranker


PASSAGES, HEAD = {"long": "max"}, {"head": "random"}
PYRAMID = {"summary": 32, **HEAD}
SCORERS: dict[str, Scorer] = {
    "bi-encoder": Scorer("encoder", BiEncoder),
    "bi-encoder, query prefix": Scorer("encoder", BiEncoder, {"query_prefix": "the question is: "}),
    "bi-encoder, best passage": Scorer("encoder", BiEncoder, PASSAGES),
    "bi-encoder, best passage, both ways": Scorer("encoder", BiEncoder, PASSAGES, both_ways=True),
    "cross-encoder": Scorer("encoder", CrossEncoder, HEAD),
    "cross-encoder, both ways": Scorer("encoder", CrossEncoder, HEAD, both_ways=True),
    "cross-encoder, best passage": Scorer("encoder", CrossEncoder, PASSAGES | HEAD),
    "pyramid": Scorer("encoder", PyramidEncoder, PYRAMID),
    "pyramid, both ways": Scorer("encoder", PyramidEncoder, PYRAMID, both_ways=True),
    "causal, yes or no": Scorer("causal", CausalRanker),
    "causal, expected grade": Scorer("causal", CausalRanker, {"view": "expected"}),
    "causal, reward head": Scorer("causal", CausalRanker, {"view": "head", **HEAD}),
    "replies": Scorer("causal", ReplyRanker, probes=("Yes", "No", "A")),
}
"""Every kind of text scorer, and the options that put one elsewhere. A causal ranker's log-ratio is left out, for it is
0 until an adapter is trained. RankGen's dual encoder (:mod:`lorank.training.methods.rankgen`) is a bi-encoder."""


@dataclass(frozen=True)
class Place:
    """Where a scorer stands.

    Args:
        symmetry: ``symmetric`` or ``asymmetric``.
        focus: ``representation`` or ``interaction``.
        granularity: ``single`` or ``multi``.
    """

    symmetry: str
    focus: str
    granularity: str

    @property
    def cell(self) -> Cell:
        """The place as one of ``CELLS``."""
        return self.symmetry, self.focus, self.granularity


UNITS: dict[str, Callable[[Ranker], bool]] = {
    "passages": lambda ranker: getattr(ranker, "long", "truncate") in ("max", "mean"),
    "layers": lambda ranker: getattr(ranker, "low", 0) > 0,
}
"""Each way to be of several granularities: passages of a document, layers that first read parts apart."""


def place(ranker: Ranker, texts: Sequence[str] = PROBES) -> Place:
    """Return where a ranker of texts stands.

    Args:
        ranker: With weights that tell texts apart.
        texts: What symmetry is measured on, three at least; one should be longer than the ranker takes in at once.

    Raises:
        UsageError: Where all texts get one score, as before a new head is trained; for fewer texts.
    """
    inner = _inner(ranker)
    return Place(
        AXES["symmetry"][0 if is_symmetric(ranker, texts) else 1],
        AXES["focus"][0 if hasattr(inner, "encode") else 1],
        AXES["granularity"][1 if any(has(inner) for has in UNITS.values()) else 0],
    )


def is_symmetric(ranker: Ranker, texts: Sequence[str] = PROBES, tolerance: float = 1e-3) -> bool:
    """Return whether scores stay, within ``tolerance`` of their spread, when the texts of a pair change places.

    Scores are computed in float32 whatever the ranker's ``dtype`` says.

    >>> from lorank.ranking.scorers import BM25
    >>> bm25 = BM25.index([str(i) for i in range(len(PROBES))], PROBES)
    >>> is_symmetric(bm25), is_symmetric(BothWays(bm25))
    (False, True)
    """
    if len(set(texts)) < 3:
        raise UsageError(f"symmetry is measured on three different texts or more; got {len(set(texts))}")
    pairs = np.array(list(combinations(range(len(texts)), 2)), np.int64)
    with _in_float32(_inner(ranker)):
        scores = ranker.score_pairs(texts, texts, np.concatenate([pairs, pairs[:, ::-1]]))
    forth, back = scores[: len(pairs)], scores[len(pairs) :]
    if np.ptp(scores) == 0:
        raise UsageError(
            "symmetry cannot be measured where all texts get one score; train the ranker's head, or draw "
            "it with head='random'"
        )
    return bool(np.abs(forth - back).max() <= tolerance * np.ptp(scores))


def _inner(ranker: Ranker) -> Ranker:
    return ranker.ranker if isinstance(ranker, BothWays) else ranker


@contextmanager
def _in_float32(ranker: Ranker) -> Iterator[None]:
    if not isinstance(ranker, TextRanker):
        yield
        return
    asked, ranker.dtype = ranker.dtype, "float32"
    try:
        yield
    finally:
        ranker.dtype = asked


@catalogued(
    "deep-look-nrm",
    area="models",
    title="A Deep Look into Neural Ranking Models for Information Retrieval",
    reach="Python alone: it places scorers in a table and trains none",
)
def taxonomy(bases: Mapping[str, str | Path]) -> dict[str, Place]:
    """Return where every scorer of ``SCORERS`` stands whose base is given, by name.

    Args:
        bases: ``encoder`` and ``causal``, or one of them: a packaged name, a folder, or a Hub name each.

    >>> taxonomy({"encoder": "minilm"})["cross-encoder"].cell      # doctest: +SKIP
    ('asymmetric', 'interaction', 'single')
    """
    known = {scorer.base for scorer in SCORERS.values()}
    for name in bases:
        if name not in known:
            raise unknown_name("base of the taxonomy", name, known)
    return {
        name: place(scorer.build(bases[scorer.base]), scorer.probes)
        for name, scorer in SCORERS.items()
        if scorer.base in bases
    }
