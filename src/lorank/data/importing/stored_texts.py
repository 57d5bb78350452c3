"""Texts by id in a temporary file, so that an import holds ids in memory and no text, however long the texts are."""

import tempfile
from array import array
from collections.abc import Iterator, MutableMapping, Sequence
from hashlib import blake2b
from typing import overload


class StoredTexts(MutableMapping[str, str]):
    """A dictionary of texts whose values lie in a file without a name, which is gone with the dictionary.

    What is overwritten or deleted stays in the file until then.

    >>> texts = StoredTexts(); texts["a"], texts["b"] = "one", "zwölf"
    >>> texts["b"], list(texts), len(texts)
    ('zwölf', ['a', 'b'], 2)
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+b", buffering=1 << 16)  # noqa: SIM115 - it lives as long as the texts
        self._end = 0
        self._numbers: dict[str, int] = {}
        self._begins, self._sizes = array("Q"), array("Q")

    def __getitem__(self, name: str) -> str:
        number = self._numbers[name]
        self._file.seek(self._begins[number])
        data: bytes = self._file.read(self._sizes[number])
        return data.decode("utf-8", "surrogatepass")

    def __setitem__(self, name: str, text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        self._file.seek(self._end)
        self._file.write(data)
        self._numbers[name] = len(self._begins)
        self._begins.append(self._end)
        self._sizes.append(len(data))
        self._end += len(data)

    def __delitem__(self, name: str) -> None:
        del self._numbers[name]

    def __contains__(self, name: object) -> bool:
        return name in self._numbers

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


class TextsInOrder(Sequence[str]):
    """The texts of given ids, read where they are asked for; "" where an id has none.

    >>> texts = StoredTexts(); texts["a"], texts["b"] = "one", "two"
    >>> list(TextsInOrder(texts, ["b", "c"])), TextsInOrder(texts, ["b", "a"])[1:]
    (['two', ''], ['one'])
    """

    def __init__(self, texts: MutableMapping[str, str], names: Sequence[str]) -> None:
        self._texts, self._names = texts, names

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> list[str]: ...

    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self._texts.get(name, "") for name in self._names[at]]
        return self._texts.get(self._names[at], "")

    def __len__(self) -> int:
        return len(self._names)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


def digest(text: str) -> bytes:
    """Return 16 bytes by which equal texts are known; unlike ones share them once in 2^64 texts."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
