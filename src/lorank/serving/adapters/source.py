"""Where adapters come from: a store of folders, or adapters that are loaded in this process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from lorank.lowrank import Adapter
from lorank.lowrank.folder import contents_of
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.serving.adapters.package import Package
from lorank.serving.requests.engine import UnknownAdapter


class Source(Protocol):
    """Adapters by name; ``version`` changes whenever the files of one do."""

    def names(self) -> list[str]:
        """Return the names, sorted; opens none of them."""
        ...

    def version(self, name: str) -> str:
        """Return the version of ``name``; UnknownAdapter where there is none, LorankError where it is refused."""
        ...

    def read(self, name: str, ranker: TrainableRanker) -> Package:
        """Return the adapter, checked against the base; LorankError where it is broken."""
        ...

    def close(self) -> None:
        """Remove what was kept on disk."""
        ...


@dataclass(frozen=True)
class LocalSource:
    """Adapters made in this process; the versions are those of the objects."""

    packages: Mapping[str, Callable[[], Package]]

    @classmethod
    def of(cls, adapters: Mapping[str, Adapter]) -> "LocalSource":
        """Serve the adapters as they are; each is on a model of its own, a copy of the base."""
        return cls({name: partial(_package_of, adapter) for name, adapter in adapters.items()})

    def names(self) -> list[str]:
        """Return the names, sorted."""
        return sorted(self.packages)

    def version(self, name: str) -> str:
        """Return the identity of the object."""
        if name not in self.packages:
            raise UnknownAdapter(f"no adapter called {name!r}; there are {', '.join(self.names()) or 'none'}")
        return str(id(self.packages[name]))

    def read(self, name: str, ranker: TrainableRanker) -> Package:
        """Return the adapter."""
        self.version(name)
        return self.packages[name]()

    def close(self) -> None:
        """Do nothing."""


def _package_of(adapter: Adapter) -> Package:
    return Package(contents_of(adapter), Path("memory"))
