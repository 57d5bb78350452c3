"""Static budgets that need no file of their own: equal ranks, and those that come with a calibrated start.

EVA's, GoRA's and LaMDA++'s rules are those of their starts (``lowrank.starts``): here their ranks can be had for any
form and any total. A total that does not divide evenly starts from ranks that differ by one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lorank.lowrank.budgets.core.budget import hand_out, static_budget
from lorank.lowrank.forms.form import Site
from lorank.lowrank.starts import Statistics, start_named


@static_budget("uniform")
def uniform(sites: Sequence[Site], statistics: Mapping[str, Statistics], total: int) -> dict[str, int]:
    """Return equal ranks; where ``total`` does not divide evenly the first layers get one more.

    >>> from lorank.lowrank.budgets import example_sites
    >>> uniform(example_sites(["a", "b", "c"]), {}, 7)
    {'a': 3, 'b': 2, 'c': 2}
    """
    names = [site.path for site in sites]
    return hand_out(dict.fromkeys(names, 0.0), dict.fromkeys(names, total), total)


def _by_start(name: str, sites: Sequence[Site], statistics: Mapping[str, Statistics], total: int) -> dict[str, int]:
    equal = uniform(sites, statistics, total)
    ranks = start_named(name).ranks([replace(site, rank=equal[site.path]) for site in sites], statistics)
    assert ranks is not None
    return ranks


@static_budget("eva", needs=["inputs"])
def eva(sites: Sequence[Site], statistics: Mapping[str, Statistics], total: int) -> dict[str, int]:
    """Return ranks by the variance that the inputs' principal directions explain; see ``starts.eva``."""
    return _by_start("eva", sites, statistics, total)


@static_budget("gora", needs=["gradient"])
def gora(sites: Sequence[Site], statistics: Mapping[str, Statistics], total: int) -> dict[str, int]:
    """Return ranks by mean |W * G|, each from half to four times the equal rank; see ``starts.gora``."""
    return _by_start("gora", sites, statistics, total)


@static_budget("lamda-plus-plus")
def lamda_plus_plus(sites: Sequence[Site], statistics: Mapping[str, Statistics], total: int) -> dict[str, int]:
    """Return ranks by how flat each weight's spectrum is; see ``starts.spectrum_ranks``."""
    return _by_start("spectrum-ranks", sites, statistics, total)
