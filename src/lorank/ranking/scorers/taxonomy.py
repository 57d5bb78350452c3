r"""The taxonomy of neural rankers, read off the rankers: on which side of each axis of architecture a scorer stands.

    symmetry       symmetric: two texts can change places and the score stays as it is; asymmetric: it does not
    focus          representation: each text is encoded apart; interaction: the two are read together
    granularity    multi: a score is made of units of several sizes, of several passages of a document, or of layers
                   that read parts apart first and then together; single: none of these

Symmetry is the survey's own definition, and it is measured: every pair of probe texts is scored both ways. Focus is
whether the ranker can ``encode`` a text by itself. The fourth axis, learning, belongs to losses and is measured on
their gradients (:mod:`lorank.ranking.losses.learning`). Every cell has a scorer, for ``BothWays`` makes any symmetric;
`benchmarks/rankers.md` compares one model of each cell under a loss of each learning.

Paper: J. Guo, Y. Fan, L. Pang, L. Yang, Q. Ai, H. Zamani, C. Wu, W. B. Croft, X. Cheng, A Deep Look into Neural Ranking
Models for Information Retrieval, Information Processing & Management 2020, arXiv:1903.06902.

*Deviations*: granularity is decided by a rule of our own, for the survey's models of several granularities (n-grams,
layers of convolutions) are older than pretrained transformers: a whole passage counts as the unit of the survey's
horizontal granularity, layers that read parts apart below and together above as its vertical one. That a transformer
has many layers, or word pieces, does not make it one of several granularities. The survey's axes are put to the model
as it stands: a bi-encoder whose two prefixes differ is asymmetric, though its weights are shared.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path

import numpy as np

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.ranking.losses.learning import LEARNING
from lorank.ranking.scorers.bi_encoder import BiEncoder
from lorank.ranking.scorers.both_ways import BothWays
from lorank.ranking.scorers.causal import CausalRanker
from lorank.ranking.scorers.cross_encoder import CrossEncoder
from lorank.ranking.scorers.pyramid import PyramidEncoder
from lorank.ranking.scorers.ranker import Ranker
from lorank.ranking.scorers.replies import ReplyRanker

AXES: dict[str, tuple[str, ...]] = {
    "symmetry": ("symmetric", "asymmetric"),
    "focus": ("representation", "interaction"),
    "granularity": ("single", "multi"),
    "learning": LEARNING,
}
"""Each axis and the places on it; the first three are a scorer's, the last is a loss's."""

Cell = tuple[str, str, str]
CELLS: tuple[Cell, ...] = tuple(product(AXES["symmetry"], AXES["focus"], AXES["granularity"]))  # type: ignore[arg-type]

PROBES = ("sorting a list of words in place", "the moon orbits the earth\nand the earth orbits the sun",
          "how are documents ordered?", "a list of words, " * 150 + "and at the end of them the moon")
"""Texts of one line and of two, and one that is longer than most encoders take in at once."""

Build = Callable[[Path], Ranker]
SCORERS: dict[str, tuple[str, Build]] = {
    "bi-encoder": ("encoder", BiEncoder),
    "bi-encoder, query prefix": ("encoder", lambda base: BiEncoder(base, query_prefix="the question is: ")),
    "bi-encoder, best passage": ("encoder", lambda base: BiEncoder(base, long="max")),
    "bi-encoder, best passage, both ways": ("encoder", lambda base: BothWays(BiEncoder(base, long="max"))),
    "cross-encoder": ("encoder", lambda base: CrossEncoder(base, head="random")),
    "cross-encoder, both ways": ("encoder", lambda base: BothWays(CrossEncoder(base, head="random"))),
    "cross-encoder, best passage": ("encoder", lambda base: CrossEncoder(base, head="random", long="max")),
    "pyramid": ("pyramid", lambda base: PyramidEncoder(base, head="random", summary=_summary(base))),
    "pyramid, both ways": ("pyramid", lambda base: BothWays(SCORERS["pyramid"][1](base))),
    "causal": ("causal", CausalRanker),
    "causal, reward head": ("causal", lambda base: CausalRanker(base, view="head", head="random")),
    "causal, likelihood": ("causal", CausalRanker),
    "replies": ("replies", ReplyRanker),
}
