"""The catalogue: every registered method under its published name.

A wing registers a method where it is written, and the catalogue only remembers what was said: the id (the
method's name everywhere), the area, the title of the paper or the idea, and where to import it from. Each
family (forms, losses, strategies, ...) keeps its own plain dictionary from name to implementation.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Method:
    """One catalogued method: ``id`` (its name), ``area``, ``title`` and ``location`` (``module:object``).

    ``reach`` is empty for a method of a family that is chosen by name (`lorank.reach`); any other method says in it
    how it is called, and why it has no recipe key or command.
    """

    id: str
    area: str
    title: str
    location: str
    reach: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the entry as `lorank methods --json` prints it: id, area, title, import."""
        row = asdict(self)
        row["import"] = row.pop("location")
        del row["reach"]
        return row


METHODS: dict[str, Method] = {}


def catalogued(id: str, *, area: str, title: str, reach: str = "") -> Callable[[T], T]:
    """Decorate a class or function to enter it in the catalogue.

    Args:
        id: The published name, under which the method is entered.
        area: The area of the catalogue that lists the method.
        title: The title of the paper or the idea.
        reach: How the method is called that no recipe key or command reaches, as in `Method`; empty for any other.

    >>> @catalogued("example-method", area="examples", title="An example")
    ... def example_method() -> None: ...
    >>> METHODS.pop("example-method").area
    'examples'
    """

    def enter(thing: T) -> T:
        enter_method(
            id, area=area, title=title, location=f"{thing.__module__}:{getattr(thing, '__qualname__', '')}", reach=reach
        )
        return thing

    return enter


def enter_method(id: str, *, area: str, title: str, location: str, reach: str = "") -> None:
    """Enter a method that is not one object, such as a preset, in the catalogue.

    Args:
        id: The published name, under which the method is entered.
        area: The area of the catalogue that lists the method.
        title: The title of the paper or the idea.
        location: Where to import it from, as ``module:object``.
        reach: How the method is called that no recipe key or command reaches, as in `Method`; empty for any other.

    Raises:
        ValueError: If the id is registered already for another location.
    """
    if id in METHODS and METHODS[id].location != location:
        raise ValueError(f"method id {id!r} is registered twice: {METHODS[id].location} and {location}")
    METHODS[id] = Method(id, area, title, location, reach)


def methods(area: str | None = None) -> list[Method]:
    """Return the methods registered so far, of one area or of all, sorted by area and id; see ``load_all``."""
    chosen = (m for m in METHODS.values() if area in (None, m.area))
    return sorted(chosen, key=lambda m: (m.area, m.id))
