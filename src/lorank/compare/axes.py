"""The axes of an experiment: the recipe keys that hold several values, and the rows that their product makes.

A list is an axis: one row for each of its values. A key that takes a list itself (``adapter.targets``,
``training.betas``) has an axis where the list holds lists. ``{sweep = [...]}`` is no axis: dev chooses one of its
values; nor is ``{draw = [...]}``, of which a random search draws.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from lorank.compare.experiment import Sweep
from lorank.compare.random_search import is_drawn, read_drawn
from lorank.compare.search_space import Dimension
from lorank.errors import UsageError
from lorank.training.checks import NAMES, nearest
from lorank.training.recipe import RecipeFile

SEED = "seed"
SWEEP_KEYS = ("sweep", "per", "edges")
PER = ("method", "seed")


@dataclass(frozen=True)
class Axes:
    """The keys of a row, divided.

    Attributes:
        fixed: Keys with one value.
        axes: Keys with several, in the order of the file.
        seeds: The seeds.
        sweep: What dev chooses; None where nothing is swept.
        space: What is drawn; empty where nothing is.
    """

    fixed: Mapping[str, Any]
    axes: Mapping[str, tuple[Any, ...]]
    seeds: tuple[int, ...]
    sweep: Sweep | None
    space: tuple[Dimension, ...] = ()

    def points(self) -> Iterator[dict[str, Any]]:
        """Yield each combination of the axes' values, the last axis moving fastest."""
        for values in product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))


def flatten(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a recipe's content as section.key; a feature model's options are ``options.key``.

    >>> flatten({"data": "pydocs", "adapter": {"name": ["lora", "dora"]}, "options": {"trees": 100}})
    {'data': 'pydocs', 'adapter.name': ['lora', 'dora'], 'options.trees': 100}
    """
    sections = {each.name for each in fields(RecipeFile) if is_dataclass(getattr(RecipeFile(), each.name))}
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping) and key in {*sections, "options"}:
            flat |= {f"{key}.{inner}": each for inner, each in value.items()}
        else:
            flat[key] = value
    return flat


def divide_keys(flat: Mapping[str, Any], place: str) -> Axes:
    """Return which keys are fixed, which are axes, and what is swept.

    Args:
        flat: The keys, as section.key.
        place: The experiment file, for messages.

    Raises:
        UsageError: For an axis without values or with the same value twice, a sweep that is none, and two sweeps.
    """
    fixed: dict[str, Any] = {}
    axes: dict[str, tuple[Any, ...]] = {}
    seeds: tuple[int, ...] = (0,)
    sweep: Sweep | None = None
    space = tuple(read_drawn(key, value, place) for key, value in flat.items() if is_drawn(value))
    for key, value in flat.items():
        if is_drawn(value):
            continue
        if isinstance(value, Mapping) and set(value) & set(SWEEP_KEYS):
            if sweep is not None:
                raise UsageError(
                    f"{place}: {key}: {sweep.key} is swept already, and a row sweeps one key; make one of them an "
                    "axis, or search over several with `lorank tune`"
                )
            sweep = read_sweep(key, value, place)
        elif not is_axis(key, value):
            if key == SEED:
                seeds = read_seeds([value], place)
            else:
                fixed[key] = value
        elif not value:
            raise UsageError(f"{place}: {key} = []: an axis without values; give at least one, or leave the key out")
        elif key == SEED:
            seeds = read_seeds(value, place)
        else:
            for at, one in enumerate(value):
                if one in value[:at]:
                    raise UsageError(f"{place}: {key}: the value {one!r} stands there twice; leave one out")
            axes[key] = tuple(value)
    if space and sweep is not None:
        raise UsageError(f"{place}: {sweep.key} is swept and {space[0].key} drawn, and a row does one; draw both")
    return Axes(fixed, axes, seeds, sweep, space)


def is_axis(key: str, value: Any) -> bool:
    """Return whether a value is a list of values; of a key that takes a list, whether it holds lists.

    >>> is_axis("loss.name", ["softmax"]), is_axis("training.betas", [0.9, 0.99])
    (True, False)
    >>> is_axis("adapter.targets", ["query", "key"]), is_axis("adapter.targets", ["all-linear", ["query"]])
    (False, True)
    """
    if not isinstance(value, list):
        return False
    return not takes_list(key) or any(isinstance(each, list) for each in value)


def takes_list(key: str) -> bool:
    """Return whether a recipe key takes a list itself."""
    section, _, name = key.rpartition(".")
    if section == "options":
        return True
    owner = getattr(RecipeFile(), section, None) if section else RecipeFile()
    if not is_dataclass(owner):
        return False
    kind = get_type_hints(type(owner)).get(name)
    return any(get_origin(each) in (list, tuple) for each in (kind, *get_args(kind)))


def read_seeds(values: list[Any], place: str) -> tuple[int, ...]:
    """Return the seeds; raise UsageError for what is none and for one that is given twice."""
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise UsageError(
                f"{place}: seed: {value!r} is no seed; give whole numbers from 0 up, as in seed = [0, 1, 2]"
            )
    if len(set(values)) < len(values):
        raise UsageError(f"{place}: seed: a seed stands there twice; leave one out")
    return tuple(values)


def read_sweep(key: str, table: Mapping[str, Any], place: str) -> Sweep:
    """Return the sweep that a table ``{sweep = [...], per = "method", edges = 2}`` describes.

    Args:
        key: The recipe key.
        table: What the file says of it.
        place: The experiment file, for messages.

    Raises:
        UsageError: For unknown keys and values that are no numbers.
    """
    example = f'write {key} = {{sweep = [1e-4, 1e-3], per = "method"}}'
    for name in table:
        if name not in SWEEP_KEYS:
            hint = nearest(name, SWEEP_KEYS)
            raise UsageError(f"{place}: {key}.{name}: a sweep has no such key; {hint}{example}")
    values = table.get("sweep")
    if not isinstance(values, list) or not values:
        raise UsageError(f"{place}: {key}: a sweep without values; {example}")
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise UsageError(
            f"{place}: {key}: a sweep orders its values, so that edges can be followed, and takes numbers alone; make "
            f"an axis of names: {key} = {values}"
        )
    if len(set(values)) < len(values):
        raise UsageError(f"{place}: {key}: a value of the sweep stands there twice; leave one out")
    per, edges = table.get("per", "method"), table.get("edges", 2)
    if per not in PER:
        raise UsageError(f"{place}: {key}.per: {per!r} is neither method nor seed; {nearest(str(per), PER)}{example}")
    if isinstance(edges, bool) or not isinstance(edges, int) or not 0 <= edges <= 10:
        raise UsageError(f"{place}: {key}.edges: {edges!r} is no number of further values from 0 to 10")
    return Sweep(key, tuple(sorted(values)), per, edges)


def name_values(point: Mapping[str, Any]) -> str:
    """Return a row's name by its values: names of methods as they are, other keys with their name.

    >>> name_values({"adapter.name": "lora", "adapter.rank": 8, "base": "models/tiny"})
    'lora, rank 8, tiny'
    """
    parts = []
    for key, value in point.items():
        shown = "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        if key in ("base", "data"):
            parts.append(Path(shown).name)
        else:
            parts.append(shown if key in NAMES else f"{key.rpartition('.')[2].replace('_', ' ')} {shown}")
    return ", ".join(parts)
