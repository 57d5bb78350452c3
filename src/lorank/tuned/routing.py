"""A router in a folder: the arms, their costs, the terms that its features count, and what was learned."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lorank.errors import DataError, UsageError
from lorank.files import replaced_folder
from lorank.manifest import add_manifest, check_manifest
from lorank.ranking.metrics.measures import per_query
from lorank.ranking.routing import Router, RoutingTable, make_router
from lorank.ranking.routing.features import query_features, run_features
from lorank.ranking.scorers.bm25 import BM25Statistics
from lorank.ranking.types import Qrels, Run

CARD = "route.json"


@dataclass
class Route:
    """A router, the arms it chooses among, and what its features are made of.

    Attributes:
        method: The name of the router.
        router: The router.
        arms: The names of the arms.
        price: What a unit of cost takes from quality.
        statistics: The terms that the features of queries count.
        runs: Whether what the arms' runs say of a query is part of its features.
        options: The options of the router.
    """

    method: str
    router: Router
    arms: list[str]
    price: float
    statistics: BM25Statistics
    runs: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def features(self, queries: Mapping[str, str], runs: Mapping[str, Run] | None = None) -> np.ndarray:
        """Return the features of queries, float64 [queries, features]."""
        return features_of(queries, self.statistics, [runs[arm] for arm in self.arms] if self.runs and runs else None)

    def choose(
        self, queries: Mapping[str, str], runs: Mapping[str, Run] | None = None, preference: float | None = None
    ) -> dict[str, str]:
        """Return the arm of each query.

        Args:
            queries: The text of each query, by id.
            runs: The run of each arm, where they are part of the features.
            preference: A weight of quality against cost from 0 to 1, of a router that takes one; None is its price.

        Raises:
            UsageError: For runs that lack an arm, and a preference of a router that takes none.
        """
        if not queries:
            return {}
        if self.runs and (runs is None or not set(self.arms) <= runs.keys()):
            raise UsageError(f"this router reads the runs of its arms; give {', '.join(self.arms)}")
        features = self.features(queries, runs)
        if preference is None:
            chosen = self.router.choose(features, self.price)
        elif hasattr(self.router, "choose_by"):
            chosen = self.router.choose_by(features, preference)
        else:
            raise UsageError(f"a router of {self.method} takes no preference; train one with --method llm-bandit")
        return {query: self.arms[arm] for query, arm in zip(queries, chosen.tolist(), strict=True)}

    def save(self, folder: str | Path) -> None:
        """Write the folder in one step; a router that stands there is replaced, anything else is refused."""
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir()) and not (folder / CARD).is_file():
            raise UsageError(f"{folder} holds something other than a router; name another folder")
        with replaced_folder(folder) as new:
            self.router.save(new)
            self.statistics.save(new)
            card = {
                "format": 1,
                "method": self.method,
                "options": self.options,
                "arms": self.arms,
                "price": self.price,
                "runs": self.runs,
            }
            (new / CARD).write_text(json.dumps(card, indent=1) + "\n", "utf-8")
            add_manifest(new, CARD)

    @classmethod
    def load(cls, folder: str | Path) -> "Route":
        """Read what ``save`` wrote; raise DataError where it is missing or damaged."""
        folder = Path(folder)
        try:
            card = json.loads((folder / CARD).read_text("utf-8"))
            method, options, arms = card["method"], card["options"], card["arms"]
            price, runs = float(card["price"]), bool(card["runs"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                folder / CARD, None, f"no router here ({error})", "make one with `lorank route train`"
            ) from error
        check_manifest(folder, card.get("files"), folder / CARD)
        router = make_router(method, **options)
        router.load(folder)
        return cls(method, router, arms, price, BM25Statistics.load(folder), runs, options)


def features_of(queries: Mapping[str, str], statistics: BM25Statistics, runs: list[Run] | None) -> np.ndarray:
    """Return the features of queries: what their words say and, where runs are given, what those say of them."""
    parts = [query_features(list(queries.values()), statistics)]
    parts += [run_features(run, queries) for run in runs or []]
    return np.concatenate(parts, 1)


def table_of_runs(
    queries: Mapping[str, str],
    qrels: Qrels,
    runs: Mapping[str, Run],
    costs: Mapping[str, float],
    statistics: BM25Statistics,
    *,
    measure: str = "nDCG@10",
    read_runs: bool = False,
) -> RoutingTable:
    """Return the table of arms that are runs, over the queries that are judged.

    Args:
        queries: The text of each query, by id.
        qrels: The judgments.
        runs: The run of each arm.
        costs: The cost of each arm, 0 where it has none.
        statistics: The terms of the collection.
        measure: What an arm's quality for a query is.
        read_runs: Whether what the runs say is part of the features.
    """
    judged = {
        query: text for query, text in queries.items() if any(grade > 0 for grade in qrels.get(query, {}).values())
    }
    if not judged:
        raise UsageError("no query has a relevant document, so there is nothing to learn from")
    own = {query: qrels[query] for query in judged}
    values = [per_query(run, own, [measure])[measure] for run in runs.values()]
    quality = np.array([[row.get(query, 0.0) for row in values] for query in judged])
    features = features_of(judged, statistics, list(runs.values()) if read_runs else None)
    return RoutingTable(list(runs), features, quality, np.array([costs.get(arm, 0.0) for arm in runs]))


def routed_run(chosen: Mapping[str, str], runs: Mapping[str, Run]) -> Run:
    """Return the run in which each query has the documents of its arm."""
    return {query: dict(runs[arm].get(query, {})) for query, arm in chosen.items()}
