"""Splits made from splits: cross-validation over one judged split, and a dev split held out of train.

Queries with the same text always go together, and so do those of one group (``Split.groups``). With ``by="target"`` so
do queries that share a relevant document, directly or through others (connected components of the query-target graph):
a model then cannot gain from having learned which documents are popular.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

import numpy as np

from lorank.data.collection import Collection, Split
from lorank.errors import UsageError

T = TypeVar("T")


def subset(split: Split, queries: Iterable[str], name: str) -> Split:
    """Return the split of some of the queries, with all that it says of them, in the split's order."""
    chosen = set(queries)

    def of(rows: dict[str, T] | None) -> dict[str, T] | None:
        return None if rows is None else {query: row for query, row in rows.items() if query in chosen}

    return Split(
        name,
        of(split.queries) or {},
        of(split.qrels) or {},
        of(split.candidates),
        of(split.users),
        of(split.weights),
        of(split.groups),
        of(split.propensities),
        of(split.tasks),
        of(split.preferences),
        None if split.impressions is None else split.impressions.of_queries(chosen),
    )


def groups(split: Split, by: Literal["query", "target"]) -> list[list[str]]:
    """Return the queries in groups that must stay together, in order of their first query."""
    parent = {query: query for query in split.queries}

    def root(query: str) -> str:
        while parent[query] != query:
            parent[query] = query = parent[parent[query]]
        return query

    first: dict[tuple[str, str], str] = {}
    for query, text in split.queries.items():
        keys = [("text", text)] if text else []  # queries of feature rows have no text
        if split.groups is not None and query in split.groups:
            keys.append(("group", split.groups[query]))
        if by == "target":
            keys += [("document", document) for document, grade in split.qrels.get(query, {}).items() if grade > 0]
        for key in keys:
            parent[root(query)] = root(first.setdefault(key, query))
    together: dict[str, list[str]] = {}
    for query in split.queries:
        together.setdefault(root(query), []).append(query)
    return list(together.values())


def _dealt(grouped: Sequence[list[str]], parts: int, rng: np.random.Generator) -> list[list[str]]:
    """Deal groups to parts: in random order, largest first, each to the part that is smallest so far."""
    order = rng.permutation(len(grouped))
    dealt: list[list[str]] = [[] for _ in range(parts)]
    for i in sorted(order, key=lambda i: -len(grouped[i])):
        min(dealt, key=len).extend(grouped[i])
    return dealt


def _check_groups(grouped: list[list[str]], queries: int, parts: int, by: str, name: str) -> None:
    largest = max(map(len, grouped), default=0)
    if len(grouped) < parts:
        raise UsageError(
            f"{name!r} has {len(grouped)} groups of queries, too few for {parts} folds; "
            "take fewer folds" + ("" if by == "query" else ", or split by='query'")
        )
    if largest > 2 * queries / parts:
        raise UsageError(
            f"{name!r} has {largest} of {queries} queries tied together by shared relevant documents "
            f"or equal text, too many for {parts} folds; take fewer folds or split by='query'"
        )


def choose_judged_split(collection: Collection, name: str | None = None) -> Split:
    """Return the split called ``name``, or the only one there is; raise UsageError where that is not clear."""
    if name is not None:
        return collection.split(name)
    if len(collection.splits) != 1:
        raise UsageError(
            f"collection {collection.name!r} has {len(collection.splits)} splits "
            f"({', '.join(collection.splits)}); say which one to cross-validate"
        )
    return next(iter(collection.splits.values()))


def cross_validation(
    collection: Collection,
    folds: int = 5,
    seed: int = 0,
    by: Literal["query", "target"] = "query",
    split: str | None = None,
) -> list[Collection]:
    """Return ``folds`` collections over the same documents, made from one judged split.

    Fold i tests on part i, chooses on part i + 1 and trains on the rest, so that every query is tested once.

    Args:
        collection: The collection with the judged split.
        folds: The number of parts, 3 or more.
        seed: The seed of the draw of parts.
        by: What parts must not share: texts of queries, or with ``target`` relevant documents too (see the module).
        split: The name of the split to divide; None takes the only one.

    Raises:
        UsageError: If there are fewer than 3 folds, or the queries cannot be divided.
    """
    if folds < 3:
        raise UsageError(f"{folds} folds cannot give a train, a dev and a test part; take 3 or more")
    whole = choose_judged_split(collection, split)
    grouped = groups(whole, by)
    _check_groups(grouped, len(whole), folds, by, collection.name)
    parts = _dealt(grouped, folds, np.random.default_rng(seed))
    made = []
    for i in range(folds):
        test, dev = parts[i], parts[(i + 1) % folds]
        train = set(whole.queries).difference(test, dev)
        splits = {
            name: subset(whole, chosen, name) for name, chosen in (("train", train), ("dev", dev), ("test", test))
        }
        made.append(replace(collection, name=f"{collection.name}/fold-{i + 1}", splits=splits))
    return made


def hold_out_dev(
    collection: Collection, fraction: float = 0.1, seed: int = 0, by: Literal["query", "target"] = "query"
) -> Collection:
    """Return the collection with about ``fraction`` of the training queries moved to a dev split.

    Args:
        collection: The collection, with a train split and no dev split.
        fraction: The share of the training queries to move, between 0 and 1.
        seed: The seed of the draw of queries.
        by: What train and dev must not share: texts of queries, or with ``target`` relevant documents too.

    Raises:
        UsageError: If there is a dev split already, no train split, or too few queries to divide.
    """
    if not 0 < fraction < 1:
        raise UsageError(f"the fraction to hold out is {fraction}; take one between 0 and 1")
    if "dev" in collection.splits:
        raise UsageError(f"collection {collection.name!r} has a dev split already; use it")
    train = collection.train
    grouped = groups(train, by)
    wanted = max(1, round(fraction * len(train)))
    dev: set[str] = set()
    for i in np.random.default_rng(seed).permutation(len(grouped)):
        if len(dev) < wanted and len(dev) + len(grouped[i]) <= max(wanted, 2 * fraction * len(train)):
            dev.update(grouped[i])
    if not dev or len(dev) == len(train):
        raise UsageError(
            f"the {len(train)} training queries of {collection.name!r} cannot be divided "
            f"(they form {len(grouped)} groups); give the collection a dev split"
        )
    held = {"train": subset(train, set(train.queries) - dev, "train"), "dev": subset(train, dev, "dev")}
    return replace(
        collection, splits={**held, **{name: split for name, split in collection.splits.items() if name != "train"}}
    )
