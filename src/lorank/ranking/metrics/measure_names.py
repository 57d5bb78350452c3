"""Names of measures as people write them, and as ir_measures does.

Case does not matter, trec_eval's names (``ndcg_cut_10``, ``P_5``, ``recip_rank``) and those of other tools (``map``,
``mrr@10``, ``recall@100``, ``hits@1``) are known, and a list may be separated by spaces or commas.
"""

import re
from collections.abc import Iterable

import ir_measures

ALIASES = {
    "map": "AP",
    "mean_average_precision": "AP",
    "average_precision": "AP",
    "mrr": "RR",
    "recip_rank": "RR",
    "reciprocal_rank": "RR",
    "recall": "R",
    "precision": "P",
    "prec": "P",
    "hit": "Success",
    "hits": "Success",
    "hit_rate": "Success",
    "hitrate": "Success",
    "hit_ratio": "Success",
    "r_precision": "Rprec",
    "rprecision": "Rprec",
    "normalized_dcg": "nDCG",
}
"""Other names of measures, in small letters with underscores, and ir_measures' own."""

_PARTS = re.compile(
    r"(?P<name>[^\W\d]\w*?(?:-\w*?[^\W\d])*?)(?:_cut)?(?:[_.]?(?P<k>\d+))?(?P<given>\(.*\))?(?P<at>@\d+)?"
)


def split_measures(texts: Iterable[str]) -> list[str]:
    """Return the measures in texts that separate them by spaces or commas, each once, as ir_measures writes them.

    >>> split_measures(["ndcg@10, map", "AP(rel=2) mrr@10"])
    ['nDCG@10', 'AP', 'AP(rel=2)', 'RR@10']
    """
    found = [part for text in texts for part in re.findall(r"(?:[^\s,(]|\([^)]*\))+", text)]
    return list(dict.fromkeys(map(canonical_measure, found)))


def canonical_measure(name: str) -> str:
    """Return a measure's name as ir_measures writes it; one that is not known comes back as it is.

    >>> [canonical_measure(name) for name in ("ndcg@10", "NDCG_cut_10", "P_5", "recall@100", "nDCG(dcg='exp-log2')@10")]
    ['nDCG@10', 'nDCG@10', 'P@5', 'R@100', "nDCG(dcg='exp-log2')@10"]
    """
    name = name.strip()
    parts = _PARTS.fullmatch(name)
    if parts is None or (parts["k"] and parts["at"]):
        return name
    own = proper_name(parts["name"])
    if own is None:
        return name
    cutoff = f"@{parts['k']}" if parts["k"] else parts["at"] or ""
    return f"{own}{parts['given'] or ''}{cutoff}"


def proper_name(word: str) -> str | None:
    """Return ir_measures' name of the measure that a word stands for, None where it stands for none.

    >>> proper_name("NDCG"), proper_name("r-precision"), proper_name("accuracy of the weather")
    ('nDCG', 'Rprec', None)
    """
    registry = ir_measures.measures.registry
    small = word.lower().replace("-", "_")
    found = ALIASES.get(small)
    if found is None:
        known = {name.lower(): measure.NAME for name, measure in registry.items()}
        found = registry[word].NAME if word in registry else known.get(small)
    return found


def known_words() -> list[str]:
    """Return every name that a measure goes by, for messages about one that is not known."""
    return sorted({*ir_measures.measures.registry, *ALIASES})
