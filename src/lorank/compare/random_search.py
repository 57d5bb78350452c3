"""Random search within an experiment: configurations that a row draws, of which dev chooses one, or one per fold.

A key that is drawn is written ``training.lr = {draw = "1e-4..1e-2:log"}`` or ``options.leaves = {draw = [4, 8, 16]}``;
the table ``search = {samples = 8, per = "fold"}`` says how many configurations are tried. Rows of the same space try
the same configurations, so that no method is drawn a better hand.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from lorank.compare.search_space import Dimension, read_dimension
from lorank.errors import UsageError
from lorank.training.checks import nearest

PER = ("method", "fold")
NOT_DRAWN = ("seed", "data", "base", "kind")


@dataclass(frozen=True)
class SearchSettings:
    """The table ``search`` of an experiment.

    Attributes:
        samples: How many configurations a row tries, 1 or more; fewer where its choices have no more.
        per: "method" chooses one for all folds, by their mean on dev; "fold" one per fold, by its own dev queries.
        seed: The seed of the configurations, 0 or more.
    """

    samples: int = 8
    per: Literal["method", "fold"] = "method"
    seed: int = 0


@dataclass(frozen=True)
class RandomSearch:
    """What a row draws from, and how."""

    space: tuple[Dimension, ...]
    settings: SearchSettings = SearchSettings()

    def configurations(self) -> list[dict[str, Any]]:
        """Return different configurations, the same ones for every row of this space.

        >>> found = RandomSearch((read_dimension("adapter.rank=4,8"),), SearchSettings(samples=5)).configurations()
        >>> sorted(each["adapter.rank"] for each in found)
        [4, 8]
        """
        rng, found = np.random.default_rng(self.settings.seed), dict[str, dict[str, Any]]()
        most = math.prod(len(dimension.values) or self.settings.samples for dimension in self.space)
        while len(found) < min(self.settings.samples, most):
            drawn = {dimension.key: dimension.draw(rng) for dimension in self.space}
            found.setdefault(json.dumps(drawn), drawn)
        return list(found.values())


def is_drawn(value: Any) -> bool:
    """Return whether a value of an experiment says that its key is drawn."""
    return isinstance(value, Mapping) and "draw" in value


def read_drawn(key: str, table: Mapping[str, Any], place: str) -> Dimension:
    """Return the dimension of a key ``{draw = ...}``.

    Args:
        key: The recipe key.
        table: What the file says of it.
        place: The experiment file, for messages.

    Raises:
        UsageError: For another key of the table, a choice of fewer than two values, and a range that is none.
    """
    example = f'write {key} = {{draw = [1, 2, 3]}}, or a range, {{draw = "1e-4..1e-2:log"}}'
    if set(table) != {"draw"}:
        other = next(name for name in table if name != "draw")
        raise UsageError(f"{place}: {key}.{other}: what is drawn has no such key; {example}")
    if key in NOT_DRAWN:
        raise UsageError(f"{place}: {key}: it is not drawn; make an axis of it, {key} = [...]")
    drawn = table["draw"]
    if isinstance(drawn, str) and ".." in drawn:
        try:
            return read_dimension(f"{key}={drawn}")
        except UsageError as error:
            raise UsageError(f"{place}: {error}") from error
    if not isinstance(drawn, list) or len({json.dumps(each) for each in drawn}) < 2:
        raise UsageError(f"{place}: {key}: a choice has two values or more; {example}")
    return Dimension(key, tuple(drawn))


def read_search(table: Any, place: str) -> SearchSettings:
    """Return the settings of a table ``search``; raise UsageError for keys and values that it does not take."""
    known = [each.name for each in fields(SearchSettings)]
    if not isinstance(table, Mapping):
        raise UsageError(f'{place}: search: write search = {{samples = 8, per = "fold"}}')
    for key in table:
        if key not in known:
            raise UsageError(
                f"{place}: search.{key}: there is no such key; {nearest(str(key), known)}it has {', '.join(known)}"
            )
    for key, least in (("samples", 1), ("seed", 0)):
        value = table.get(key, least)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UsageError(f"{place}: search.{key}: {value!r} is no whole number from {least} up")
    if table.get("per", "method") not in PER:
        raise UsageError(f"{place}: search.per: {table['per']!r} is neither method nor fold")
    return SearchSettings(**table)


def describe_chosen(chosen: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the chosen values by key: one, or the list of those of the folds where they differ.

    >>> describe_chosen([{"a": 1, "b": 2}, {"a": 1, "b": 3}])
    {'a': 1, 'b': [2, 3]}
    """
    keys = dict.fromkeys(key for each in chosen for key in each)
    of = {key: [each[key] for each in chosen] for key in keys}
    return {key: values[0] if all(value == values[0] for value in values) else values for key, values in of.items()}
