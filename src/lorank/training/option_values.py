"""The values of options that recipes give to methods: each of a kind that the option takes, and no number without end.

What an option takes is what its annotation says, or else the kind of its default. Ranges are the method's own.
"""

import inspect
import math
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lorank.errors import UsageError

NUMBERS, NONE = (int, float), type(None)
SIMPLE = (bool, int, float, str, NONE)
LARGEST = 1 << 63
"""Above every whole number that a tensor can hold."""

WORDS = {
    bool: "true or false",
    int: "a whole number of at most 63 bits",
    float: "a finite number",
    str: "a word",
    NONE: "nothing",
}


def check_option_values(section: str, options: Mapping[str, Any], *owners: Callable[..., Any]) -> None:
    """Raise UsageError for the first option whose value its method cannot take.

    Args:
        section: What a message calls the section, such as ``loss``.
        options: The options that are stated.
        owners: The functions or classes whose parameters the options are; the last that has one decides.

    >>> def bent(scores, temperature: float = 1.0): ...
    >>> check_option_values("loss", {"temperature": 2}, bent)
    >>> check_option_values("loss", {"temperature": float("nan")}, bent)
    Traceback (most recent call last):
      ...
    lorank.errors.UsageError: loss.temperature is nan; give a finite number
    """
    known = {name: each for owner in owners for name, each in parameters_of(owner).items()}
    for option, value in options.items():
        if option not in known:
            continue
        kinds, default = known[option]
        if not takes(kinds, default, value):
            own = [WORDS[kind] for kind in SIMPLE if kind in kinds]
            wanted = " or ".join(own if kinds <= set(SIMPLE) else [*own, "a list or an object, which Python alone can"])
            raise UsageError(f"{section}.{option} is {value!r}; give {wanted}")


def parameters_of(owner: Callable[..., Any]) -> dict[str, tuple[frozenset[Any], Any]]:
    """Return the kinds and the default of each parameter that has kinds."""
    function = owner.__init__ if isinstance(owner, type) else owner  # type: ignore[misc]
    try:
        hints = get_type_hints(function)
    except (NameError, TypeError):  # names that are imported for types alone
        hints = {}
    found = {}
    for name, parameter in inspect.signature(owner).parameters.items():
        kinds = kinds_of(hints.get(name))
        if not kinds and isinstance(parameter.default, (bool, int, float, str)):
            kinds = frozenset({type(parameter.default)})
        if kinds and parameter.default is None:
            kinds |= {NONE}
        if kinds:
            found[name] = kinds, parameter.default
    return found


def kinds_of(annotation: Any) -> frozenset[Any]:
    """Return the types of an annotation's alternatives; empty where there is none, or one that says nothing.

    >>> sorted(kind.__name__ for kind in kinds_of(float | None))
    ['NoneType', 'float']
    """
    if annotation in (None, Any, inspect.Parameter.empty):
        return frozenset()
    if annotation is NONE:
        return frozenset({NONE})
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [kinds_of(part) for part in get_args(annotation)]
        return frozenset().union(*parts) if all(parts) else frozenset()
    if get_origin(annotation) is Literal:
        return frozenset(type(part) for part in get_args(annotation))
    return frozenset({annotation})


def takes(kinds: frozenset[Any], default: Any, value: Any) -> bool:
    """Return whether an option of ``kinds`` takes a value; infinity only where the default is infinite."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return type(value) in kinds
    if isinstance(value, int):
        return bool(kinds & set(NUMBERS)) and abs(value) < LARGEST
    if isinstance(value, float):
        endless = isinstance(default, float) and math.isinf(default)
        finite = math.isfinite(value) or (endless and not math.isnan(value))
        return finite and float in kinds
    return not kinds <= set(SIMPLE)
