"""A store of adapters: a folder, or any fsspec URL (``s3://``, ``gs://``, ``memory://``), of adapter folders.

The name of an adapter is the name of its folder. Only files that an adapter can consist of are looked at, by name;
what is no plain file, and what leads out of its folder (a symbolic link, a name with a separator), is refused and not
opened.
Changes are seen by size, time and, where the storage has one, tag, at most every ``recheck`` seconds an adapter.
"""

import hashlib
import os
import re
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorank.errors import DataError, LorankError, UsageError
from lorank.files import DISK
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.serving.adapters.package import Package, read_package
from lorank.serving.requests.engine import UnknownAdapter

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "head.safetensors", "lorank.json")
PICKLES = ("adapter_model.bin",)
STAGE_FILES = ("first_stage.json", "bm25_statistics.json")
FILES = (
    *ADAPTER_FILES,
    *PICKLES,
    *(f"adapter/{name}" for name in (*ADAPTER_FILES, *PICKLES)),
    *(f"first_stage/{name}" for name in STAGE_FILES),
)
"""Every file that is ever opened, from the adapter's folder."""
FOLDERS = ("adapter", "first_stage")
MARKS = ("lorank.json", "adapter_config.json")
RUN, RUN_MARKS = "model", ("model/lorank.json",)
ANY_MARK = (*MARKS, *RUN_MARKS)
"""Where the run folder of `lorank train` holds its ranker."""
LARGEST = {".json": 1 << 26, ".safetensors": 1 << 30, ".bin": 1 << 30}
"""The most bytes that a file may have, by its ending."""


def check_name(name: str) -> str:
    """Return ``name`` if it can name an adapter; UnknownAdapter for anything else, such as a path.

    >>> check_name("team-a"), NAME.fullmatch("../secret") is None
    ('team-a', True)
    """
    if not NAME.fullmatch(name):
        raise UnknownAdapter(
            f"no adapter called {name[:80]!r}; a name has letters, digits, '.', '_' and '-', at most "
            "128, and starts with a letter or digit"
        )
    return name


def check_size(name: str, file: str, size: int) -> None:
    """Raise DataError for a file larger than any adapter's."""
    most = LARGEST[file[file.rindex(".") :]]
    if size > most:
        raise DataError(f"{name}/{file}", None, f"{size} bytes, more than {most}", "is this an adapter?")


@dataclass
class Watched:
    """What is known of one adapter: its version, when it was looked at, or why it is refused."""

    version: str
    looked: float


class Watch:
    """Versions by name, each looked up anew after ``recheck`` seconds; may be asked from any thread."""

    def __init__(self, recheck: float) -> None:
        self.recheck = recheck
        self._known: dict[str, Watched] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> str | None:
        """Return the version of ``name`` if it was looked up lately."""
        with self._lock:
            known = self._known.get(name)
        return known.version if known and time.monotonic() - known.looked < self.recheck else None

    def put(self, name: str, version: str) -> str:
        """Remember and return a version."""
        with self._lock:
            if len(self._known) >= 100_000:
                self._known.clear()
            self._known[name] = Watched(version, time.monotonic())
        return version


class FolderStore:
    """Adapter folders inside one local folder; a ``Source``.

    A run folder of `lorank train` stands for the ranker in its ``model/``. No file is read where it lies: `copy` takes
    a private copy first, so that whoever writes to the store cannot change what is being read.
    """

    def __init__(self, root: str | Path, *, recheck: float = 1.0) -> None:
        self.root = Path(root).resolve()
        if not self.root.is_dir():
            raise UsageError(f"no folder of adapters at {root}; give a folder, or a URL such as s3://bucket/adapters")
        self._watch = Watch(recheck)

    def names(self) -> list[str]:
        """Return the names of the folders that look like adapters, sorted; opens none of their files."""
        return sorted(
            path.name
            for path in self.root.iterdir()
            if NAME.fullmatch(path.name) and path.is_dir() and any((path / mark).exists() for mark in ANY_MARK)
        )

    def version(self, name: str) -> str:
        """Return a digest of the names, sizes, times and numbers of the adapter's files."""
        known = self._watch.get(check_name(name))
        return known if known is not None else self._watch.put(name, self.look(name))

    def look(self, name: str) -> str:
        """Return the version now, whatever is remembered."""
        found = list(self.files(name))
        if not found:
            raise UnknownAdapter(f"no adapter called {name!r} in the store")
        return digest((file, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino) for file, _, stat in found)

    def home(self, name: str) -> Path:
        """Return the folder of an adapter's files; DataError where it leads out of the store.

        The names in the root are the operator's, who may let one stand for another folder of the store; a link below
        them is followed nowhere.
        """
        folder = self.root / name
        if folder.is_symlink():
            real = folder.resolve()
            if not real.is_relative_to(self.root) or real == self.root:
                raise DataError(name, None, "leads out of the store", "copy the folder into it")
            folder = real
        marked = any(os.path.lexists(folder / mark) for mark in MARKS)
        return folder if marked or not os.path.lexists(folder / RUN_MARKS[0]) else folder / RUN

    def files(self, name: str) -> Iterator[tuple[str, Path, os.stat_result]]:
        """Yield the adapter's files by their place in its folder, unopened; DataError for one that is no plain file."""
        home = self.home(name)
        for folder in ("", *FOLDERS):
            if (home / folder).is_symlink():
                where = "out of the store" if not (home / folder).resolve().is_relative_to(self.root) else "elsewhere"
                raise DataError(f"{name}/{folder}", None, f"leads {where}: a link", "copy the folder itself")
        for file in FILES:
            path = home / file
            try:
                found = path.lstat()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise DataError(f"{name}/{file}", None, f"cannot be looked at ({error.strerror})", "mend it") from error
            if stat.S_ISLNK(found.st_mode):
                where = "elsewhere" if path.resolve().is_relative_to(self.root) else "out of the store"
                raise DataError(f"{name}/{file}", None, f"leads {where}: a link", "copy the file itself there")
            if not stat.S_ISREG(found.st_mode):
                raise DataError(f"{name}/{file}", None, "not a file", "save the adapter again")
            check_size(name, file, found.st_size)
            yield file, path, found

    def copy(self, name: str, target: Path) -> str:
        """Copy the adapter's files into the empty folder ``target`` and return their version."""
        before = self.look(check_name(name))
        for file, path, found in self.files(name):
            copy_file(f"{name}/{file}", path, found, target / file)
        if self.look(name) != before:
            raise Changed(name, None, "the files changed while they were read", "ask again")
        return before

    def read(self, name: str, ranker: TrainableRanker) -> Package:
        """Return the adapter, checked against the base; DataError where it is broken or changes meanwhile."""
        with tempfile.TemporaryDirectory(prefix="lorank-adapter-") as stage:
            self.copy(name, Path(stage))
            return read_named(name, Path(stage), ranker)

    def close(self) -> None:
        """Do nothing: a local store keeps nothing."""


class Changed(DataError):
    """The files of an adapter changed while they were copied; nothing is known of what they are now."""


def copy_file(name: str, path: Path, looked: os.stat_result, target: Path) -> None:
    """Copy one file of an adapter without following a link; a pipe holds nothing up.

    Args:
        name: The place of the file in the store, for errors.
        path: The file.
        looked: Its state when it was looked at; a file that differs from it is refused.
        target: The copy; its folder is made where it is missing.

    Raises:
        Changed: the file is another one than before, or went away.
        LorankError: the disk has no room for the copy.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(path, flags), "rb") as source, target.open("wb") as copied:
            found = os.fstat(source.fileno())
            if (found.st_dev, found.st_ino, found.st_size) != (looked.st_dev, looked.st_ino, looked.st_size):
                raise Changed(name, None, "the file changed while it was read", "ask again")
            left = found.st_size + 1
            while left and (block := source.read(min(left, 1 << 20))):
                copied.write(block)
                left -= len(block)
    except OSError as error:
        if error.errno in DISK:
            raise LorankError(f"no room to copy {name} ({error.strerror}): make some in {target.parent}") from error
        raise Changed(name, None, f"the file went away while it was read ({error.strerror})", "ask again") from error
    if left != 1:
        raise Changed(name, None, "the file changed while it was read", "ask again")


@dataclass
class RemoteStore:
    """Adapter folders behind an fsspec URL; files are copied to a temporary folder to be read. A ``Source``.

    ``keep`` says how many adapters stay on the local disk after they were read.
    """

    url: str
    recheck: float = 10.0
    keep: int = 1000
    _local: dict[str, tuple[str, Path]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise LorankError("a store behind a URL needs fsspec: pip install 'lorank[serve]'") from error
        try:
            self._files, self._root = url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise UsageError(f"cannot open the store {self.url}: {error}") from error
        self._watch = Watch(self.recheck)
        self._lock = threading.Lock()
        self._disk = tempfile.TemporaryDirectory(prefix="lorank-store-")

    def names(self) -> list[str]:
        """Return the names of the folders that look like adapters, sorted; opens none of their files."""
        self._files.invalidate_cache()
        try:
            listed = self._files.ls(self._root, detail=True)
        except FileNotFoundError:
            return []
        names = (row["name"].rstrip("/").rpartition("/")[2] for row in listed if row["type"] == "directory")
        return sorted(
            name
            for name in names
            if NAME.fullmatch(name) and any(self._files.exists(self._place(name, mark)) for mark in ANY_MARK)
        )

    def version(self, name: str) -> str:
        """Return a digest of what the storage says of the adapter's files: size, time, tag."""
        known = self._watch.get(check_name(name))
        return known if known is not None else self._watch.put(name, self.look(name))

    def look(self, name: str) -> str:
        """Return the version now, whatever is remembered."""
        found = self.list_files(name)
        if not found:
            raise UnknownAdapter(f"no adapter called {name!r} in the store")
        for file, info in found.items():
            check_size(name, file, info.get("size") or 0)
        return digest(
            (
                file,
                *(
                    str(info.get(key))
                    for key in ("size", "ETag", "etag", "mtime", "created", "LastModified", "last_modified", "md5Hash")
                ),
            )
            for file, info in found.items()
        )

    def list_files(self, name: str) -> dict[str, dict[str, Any]]:
        """Return what the storage says of the adapter's files, by their place in its folder."""
        folder = self._place(name)
        self._files.invalidate_cache(folder)
        try:
            found = self._files.find(folder, detail=True)
        except FileNotFoundError:
            return {}
        by_place = {path.removeprefix(folder).lstrip("/"): info | {"name": path} for path, info in found.items()}
        if RUN_MARKS[0] in by_place and not any(mark in by_place for mark in MARKS):
            by_place = {path.removeprefix(f"{RUN}/"): info for path, info in by_place.items()}
        return {file: by_place[file] for file in FILES if file in by_place}

    def read(self, name: str, ranker: TrainableRanker) -> Package:
        """Return the adapter, checked against the base; DataError where it is broken."""
        return read_named(name, self.local(name)[1], ranker)

    def copy(self, name: str, target: Path) -> str:
        """Copy the adapter's files into the empty folder ``target`` and return their version."""
        version, folder = self.local(name)
        shutil.copytree(folder, target, dirs_exist_ok=True)
        return version

    def local(self, name: str) -> tuple[str, Path]:
        """Return the version and a copy on the local disk, fetched where it is another's; older copies go."""
        version = self.look(check_name(name))
        with self._lock:
            known = self._local.pop(name, None)
            if known is None or known[0] != version:
                if known is not None:
                    remove(known[1])
                known = version, self.fetch(name, version)
            self._local[name] = known
            while len(self._local) > self.keep:
                remove(self._local.pop(next(iter(self._local)))[1])
        return known

    def fetch(self, name: str, version: str) -> Path:
        """Copy the adapter's files to the local disk and return their folder; nothing is left where that fails."""
        folder = Path(self._disk.name) / name / version
        folder.mkdir(parents=True)
        try:
            for file, info in self.list_files(name).items():
                target = folder / file
                target.parent.mkdir(parents=True, exist_ok=True)
                self._fetch_file(info["name"], f"{name}/{file}", target)
            if self.look(name) != version:
                raise Changed(name, None, "the files changed while they were fetched", "ask again")
        except BaseException:
            remove(folder)
            raise
        return folder

    def _fetch_file(self, place: str, file: str, target: Path) -> None:
        most = LARGEST[Path(file).suffix]
        try:
            with self._files.open(place, "rb") as source, target.open("wb") as copied:
                while block := source.read(1 << 20):
                    most -= len(block)
                    if most < 0:
                        raise DataError(file, None, "larger than the store says", "is this an adapter?")
                    copied.write(block)
        except OSError as error:
            if isinstance(error, LorankError):
                raise
            raise LorankError(f"cannot fetch {file} from the store: {error}") from error

    def close(self) -> None:
        """Remove the copies."""
        self._disk.cleanup()

    def _place(self, *parts: str) -> str:
        return "/".join([self._root.rstrip("/"), *parts])


def read_named(name: str, folder: Path, ranker: TrainableRanker) -> Package:
    """Read a folder; errors name the adapter's files as the store does, not as this machine does."""
    try:
        return read_package(folder, ranker)
    except DataError as error:
        inside = error.path.relative_to(folder) if error.path.is_relative_to(folder) else Path(error.path.name)
        raise DataError(Path(name) / inside, error.line, error.problem, error.remedy) from error


def open_store(place: str | Path, *, recheck: float | None = None) -> FolderStore | RemoteStore:
    """Return the store at a folder or an fsspec URL."""
    options: dict[str, Any] = {} if recheck is None else {"recheck": recheck}
    if "://" in str(place):
        return RemoteStore(str(place), **options)
    return FolderStore(place, **options)


def digest(parts: Iterator[tuple[object, ...]]) -> str:
    """Return a short digest of what tells one state of files from another."""
    return hashlib.sha256(repr(list(parts)).encode()).hexdigest()[:24]


def remove(folder: Path) -> None:
    """Remove a folder of copies."""
    shutil.rmtree(folder, ignore_errors=True)
