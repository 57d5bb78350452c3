"""What a search draws from: ranges and choices of recipe keys, as ``--over`` writes them.

training.lr=1e-5..1e-2:log        a range, here one whose logarithm is drawn evenly
lists.negatives=1..7              a range of whole numbers, its ends included
adapter.rank=4,8,16               a choice
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lorank.errors import LorankError, UsageError
from lorank.training.checks import check_names
from lorank.training.recipe import RecipeFile, override


@dataclass(frozen=True)
class Dimension:
    """One key and what is drawn for it: a choice of ``values``, or a range from ``low`` to ``high``."""

    key: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of a range, whole numbers where it has them alone."""
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)

    def draw(self, rng: np.random.Generator) -> Any:
        """Return one value."""
        if self.values:
            return self.values[int(rng.integers(len(self.values)))]
        if self.whole and not self.log:
            return int(rng.integers(int(self.low), int(self.high) + 1))
        share = float(rng.random())
        if self.log:
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        return round(value) if self.whole else float(f"{value:.4g}")


def read_dimension(text: str) -> Dimension:
    """Return the dimension that a text of ``--over`` describes.

    Raises:
        UsageError: For a text that is neither a range nor a choice.

    >>> read_dimension("training.lr=1e-5..1e-2:log")
    Dimension(key='training.lr', values=(), low=1e-05, high=0.01, log=True, whole=False)
    >>> read_dimension("loss.name=softmax,lambda").values
    ('softmax', 'lambda')
    """
    key, equals, value = text.partition("=")
    example = "write a range, training.lr=1e-5..1e-2:log, or a choice, adapter.rank=4,8,16"
    if not key.strip() or not equals or not value.strip():
        raise UsageError(f"--over {text!r} has no values; {example}")
    if ".." not in value:
        values = tuple(_value(part.strip()) for part in value.split(","))
        if len({json.dumps(each) for each in values}) < 2:
            raise UsageError(f"--over {text!r}: a choice has two values or more; {example}")
        return Dimension(key.strip(), values)
    ends, _, scale = value.partition(":")
    low, _, high = ends.partition("..")
    if scale not in ("", "log", "linear"):
        raise UsageError(f"--over {text!r}: the scale {scale!r} is neither log nor linear; {example}")
    try:
        numbers = float(low), float(high)
    except ValueError as error:
        raise UsageError(f"--over {text!r}: the ends of a range are numbers; {example}") from error
    if not numbers[0] < numbers[1] < math.inf or not math.isfinite(numbers[0]):
        raise UsageError(f"--over {text!r}: the lower end is not below the upper one; {example}")
    if scale == "log" and numbers[0] <= 0:
        raise UsageError(f"--over {text!r}: a log scale begins above 0; {example}")
    whole = all(isinstance(_value(end.strip()), int) for end in (low, high))
    return Dimension(key.strip(), (), *numbers, scale == "log", whole)


def read_space(texts: Sequence[str], recipe: RecipeFile) -> tuple[Dimension, ...]:
    """Return the dimensions of a search, once each is known to fit the recipe.

    Args:
        texts: What ``--over`` was given.
        recipe: The recipe that is tuned.

    Raises:
        UsageError: For no dimension, a key given twice, and a value that the key does not take.
    """
    space = tuple(read_dimension(text) for text in texts)
    if not space:
        raise UsageError("nothing to search over; give --over training.lr=1e-5..1e-2:log, --over adapter.rank=4,8,16")
    keys = [dimension.key for dimension in space]
    for key in keys:
        if keys.count(key) > 1:
            raise UsageError(f"--over {key}: it is given twice; leave one out")
        if key in ("seed", "data", "out", "training.steps", "training.minutes", "training.epochs"):
            raise UsageError(f"--over {key}: the budget, the data and the seed are not searched over; leave it out")
    for dimension in space:
        for value in dimension.values or dimension.ends:
            try:
                check_names(override(recipe, {dimension.key: value}, "--over"), {dimension.key})
            except LorankError:
                if len(space) == 1 or not _is_option(dimension.key, recipe):
                    raise
    return space


def draw_configurations(space: Sequence[Dimension], count: int, seed: int) -> list[dict[str, Any]]:
    """Return ``count`` configurations, drawn independently; the first ones do not depend on ``count``.

    Args:
        space: The dimensions.
        count: How many, 0 or more.
        seed: The seed.
    """
    rng = np.random.default_rng(seed)
    return [{dimension.key: dimension.draw(rng) for dimension in space} for _ in range(count)]


def _is_option(key: str, recipe: RecipeFile) -> bool:
    """Return whether a key is an option of a method, which may fit some of the methods that are drawn."""
    section, _, name = key.partition(".")
    return bool(name) and not hasattr(getattr(recipe, section, None), name)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
