"""The readers of `lorank import`, one file each in ``readers/``, in a dictionary that a decorator fills."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lorank.data.importing.found import Found
from lorank.data.numbers import Negative
from lorank.errors import OnBad, UsageError

KINDS = ("documents", "queries", "judgments", "rows")
"""What a source may be said to be, where its name and content leave it open: ``queries=FILE``."""


@dataclass(frozen=True)
class Options:
    """How sources are read: columns by role, what a label below 0 is, which fields of topics make a query."""

    columns: dict[str, str] = field(default_factory=dict)
    negative: Negative = "error"
    topic_fields: tuple[str, ...] = ("title",)


@dataclass(frozen=True)
class Source:
    """A file or folder to read: its id within what was given, its first bytes, and what it was said to be."""

    path: Path
    id: str
    head: bytes = b""
    kind: str | None = None
    split: str | None = None

    @property
    def ending(self) -> str:
        """The name's ending in lower case, without that of a compression."""
        from lorank.reading import plain_name

        return Path(plain_name(self.path)).suffix.lower()

    @property
    def words(self) -> str:
        """The name in lower case, by which a kind is guessed."""
        return self.path.name.lower()


@dataclass(frozen=True)
class Reader:
    """One kind of source: how a person calls it, whether a source is of it, and how it is read."""

    name: str
    title: str
    fits: Callable[[Source], bool]
    read: Callable[[Source, Options, OnBad], Iterator[Found]]
    folder: bool = False
    order: int = 2


READERS: dict[str, Reader] = {}


def reader(
    name: str,
    title: str,
    *,
    endings: tuple[str, ...] = (),
    fits: Callable[[Source], bool] | None = None,
    folder: bool = False,
    order: int = 2,
) -> Callable[
    [Callable[[Source, Options, OnBad], Iterator[Found]]], Callable[[Source, Options, OnBad], Iterator[Found]]
]:
    """Return a decorator that registers a reader.

    Args:
        name: The name, unique.
        title: How a person calls what it reads.
        endings: The endings of names that it reads, such as ``.html``.
        fits: Whether a source is of this kind; by default where its name has one of the endings.
        folder: Whether it reads folders as a whole.
        order: When it is asked: 0 for one that goes by the first bytes or a sure name, 1 by content, 2 by endings.

    Raises:
        UsageError: for a name that is taken.
    """

    def register(
        read: Callable[[Source, Options, OnBad], Iterator[Found]],
    ) -> Callable[[Source, Options, OnBad], Iterator[Found]]:
        if name in READERS:
            raise UsageError(f"there is a reader {name!r} already; choose another name")
        READERS[name] = Reader(name, title, fits or (lambda source: source.ending in endings), read, folder, order)
        return read

    return register


def reader_of(source: Source) -> Reader | None:
    """Return the reader of a file or folder, None where there is none."""
    import lorank.data.importing.readers  # noqa: F401  it fills READERS

    folder = source.path.is_dir()
    for each in sorted(READERS.values(), key=lambda each: each.order):
        if each.folder is folder and each.fits(source):
            return each
    return None
