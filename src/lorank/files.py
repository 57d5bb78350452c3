"""Files and folders that are replaced whole or not at all, whatever stops the writer: an error, a full disk, kill -9.

What is written goes to a hidden name beside the final one, is forced to disk, and takes the final name in one step.
A folder that stands there already changes places with the new one (``renameat2`` with RENAME_EXCHANGE on Linux,
``renamex_np`` on macOS), so that whoever looks sees the old or the new one. Three kinds of folder cannot change places.
Where the file system does not know the call, the old one is moved aside first, and is put back by the next writer if
this one dies between the two steps. In a mount point and in a folder that holds the working directory, files are
replaced one by one, and the manifest (`lorank.manifest`) tells a reader that they are not of one save.
"""

import ctypes
import errno
import json
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lorank.errors import LorankError, WriteError
from lorank.manifest import CARD, listed

DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
"""Errors of the disk, whoever meets them."""
DISK_TEXTS = re.compile(r"os error (28|122|27|5|30)\b|StorageFull|No space left|File too large|Disk quota")
"""How libraries that write by themselves tell of them."""
NOT_KNOWN = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
LOOKS = 50
"""How often a name that comes and goes is tried."""


def write_text(path: str | Path, text: str) -> None:
    """Write one UTF-8 text, all or nothing."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write one file, all or nothing."""
    with replaced_file(path) as stage, stage.open("wb") as file:
        file.write(data)


def write_json(path: str | Path, value: Any, *, indent: int = 2) -> None:
    """Write one JSON value with a final newline, all or nothing; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def replaced_file(path: str | Path, *, mode: int = 0o666) -> Iterator[Path]:
    """Yield a new empty file beside ``path`` that takes its name when the block ends, and is removed when it raises.

    The permissions of an older file stay, a new one has ``mode`` less the umask; a link is followed; what is no regular
    file (a pipe, ``/dev/stdout``) is written to as it is.

    Raises:
        WriteError: where the disk is full, or the folder cannot be written to; the older file is as it was.
    """
    target = Path(path)
    if target.exists() and not target.is_file():
        if target.is_dir():
            raise LorankError(f"{target} is a folder; give the name of a file")
        yield target
        return
    target = target.resolve() if target.is_symlink() else target
    with _reported(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent, target.name)
        stage, lock = _new_stage(target.parent, target.name, mode)
        try:
            yield stage
            if target.exists():
                stage.chmod(stat.S_IMODE(target.stat().st_mode))
            force_to_disk(stage)
            stage.replace(target)
            force_to_disk(target.parent)
        finally:
            stage.unlink(missing_ok=True)
            os.close(lock)


@contextmanager
def replaced_folder(path: str | Path, *, keep_others: bool = False, own: Collection[str] = ()) -> Iterator[Path]:
    """Yield a new empty folder that takes the name ``path`` when the block ends, and is removed when it raises.

    Args:
        path: a link to a folder is followed.
        keep_others: files of an older folder that the block did not write stay, but for those that its manifest lists
            and those called ``own``; without it all go.
        own: names of files that belong to what is written, so that an older one of them does not stay.

    Raises:
        LorankError: ``path`` is a file.
        WriteError: where the disk is full, or the folder cannot be written to; the older folder is as it was.
    """
    target = Path(path)
    target = target.resolve() if target.is_symlink() else target
    if target.exists() and not target.is_dir():
        raise LorankError(f"{target} is a file; give the name of a folder")
    with _reported(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        inside = target.is_dir() and not _can_change_places(target)
        home = target if inside else target.parent
        _sweep(home, target.name)
        stage, lock = _new_stage(home, target.name, None)
        try:
            yield stage
            _force_tree_to_disk(stage)
            if inside:
                _replace_one_by_one(stage, target, {*own, *listed(target)} if keep_others else None)
            else:
                if keep_others and target.is_dir():
                    _link_others(target, stage, {*own, *listed(target)})
                if target.is_dir():
                    stage.chmod(stat.S_IMODE(target.stat().st_mode))
                _put_in_place(stage, target)
                force_to_disk(target.parent)
        finally:
            shutil.rmtree(stage, ignore_errors=True)  # after a swap this is the older folder
            os.close(lock)


def force_to_disk(path: Path) -> None:
    """Wait until a file or a folder's list of names is on the disk, where the file system can tell."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder that may be written to but not listed
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in DISK:
            raise
    finally:
        os.close(descriptor)


def _put_in_place(stage: Path, target: Path) -> None:
    for _ in range(LOOKS):
        if target.exists():
            if not exchange(stage, target):
                _move_aside(stage, target)
            return
        try:
            stage.rename(target)
            return
        except OSError as error:  # another writer was faster
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    raise LorankError(f"{target} comes and goes while it is written; is another writer at work?")


def exchange(one: Path, other: Path) -> bool:
    """Let two names change places in one step; return False, with nothing done, where the system cannot."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            result = library.renamex_np(os.fsencode(one), os.fsencode(other), 2)
        else:
            result = library.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2)
    except (AttributeError, TypeError, OSError):  # no such call on this system
        return False
    if result == 0:
        return True
    number = ctypes.get_errno()
    if number in NOT_KNOWN:
        return False
    raise OSError(number, os.strerror(number), str(other))


def _move_aside(stage: Path, target: Path) -> None:
    old = stage.with_suffix(".old")
    target.rename(old)
    try:
        stage.rename(target)
    except BaseException:  # what was there comes back
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _replace_one_by_one(stage: Path, target: Path, dropped: set[str] | None) -> None:
    """Move files in, each at once; then those of the older save go, all others too where ``dropped`` is None."""
    names = [path.relative_to(stage) for path in sorted(stage.rglob("*")) if path.is_file()]
    for name in sorted(names, key=lambda name: (name.name == CARD, len(name.parts) == 1)):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (stage / name).replace(target / name)
    for path in target.rglob("*"):
        name = path.relative_to(target)
        goes = dropped is None or name.as_posix() in dropped
        if goes and not path.is_dir() and name not in names and stage not in path.parents:
            path.unlink(missing_ok=True)
    force_to_disk(target)


def _link_others(target: Path, stage: Path, dropped: set[str], above: str = "") -> None:
    """Give ``stage`` what ``target`` holds and it does not, by hard links where the file system has them."""
    for entry in os.scandir(target):
        if above + entry.name in dropped:
            continue
        place = stage / entry.name
        if entry.is_dir(follow_symlinks=False):
            if place.is_dir() or not place.exists():
                place.mkdir(exist_ok=True)
                _link_others(Path(entry.path), place, dropped, f"{above}{entry.name}/")
                shutil.copystat(entry.path, place)
        elif not os.path.lexists(place):
            try:
                os.link(entry.path, place, follow_symlinks=False)
            except OSError as error:
                if error.errno in DISK:
                    raise
                shutil.copy2(entry.path, place, follow_symlinks=False)


def _can_change_places(target: Path) -> bool:
    """Return whether another folder may take the name of ``target`` without harm to others."""
    here = target.resolve()
    try:
        working = Path.cwd().resolve()
    except OSError:
        working = None
    if os.path.ismount(target) or not os.access(target.parent, os.W_OK | os.X_OK):
        return False
    if working is not None and (working == here or here in working.parents):
        return False
    device = target.stat().st_dev
    return all(os.lstat(folder).st_dev == device for folder, _, _ in os.walk(target))


def _hidden(name: str, mark: str, end: str) -> str:
    return f".{name[:200]}.{mark}.{end}"


def _new_stage(home: Path, name: str, mode: int | None) -> tuple[Path, int]:
    """Return a new hidden file of ``mode``, or folder, and a descriptor whose lock says that its writer lives."""
    while True:
        stage = home / _hidden(name, secrets.token_hex(4), "tmp")
        try:
            stage.mkdir() if mode is None else stage.touch(mode=mode, exist_ok=False)
        except FileExistsError:
            continue
        try:
            lock = os.open(stage, os.O_RDONLY)
        except FileNotFoundError:  # swept away before it was locked
            continue
        _lock(lock, wait=True)
        if stage.exists() and stage.stat().st_ino == os.fstat(lock).st_ino:
            return stage, lock
        os.close(lock)


def _lock(descriptor: int, *, wait: bool) -> bool:
    try:
        import fcntl
    except ImportError:  # a system without such locks: leftovers stay
        return wait
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return wait
    return True


def _sweep(home: Path, name: str) -> None:
    """Remove what writers of ``home/name`` that died have left, and put an older folder back that one moved aside."""
    pattern = re.compile(rf"\.{re.escape(name[:200])}\.[0-9a-f]{{8}}\.(tmp|old)")
    found = [Path(entry.path) for entry in os.scandir(home) if pattern.fullmatch(entry.name)]
    for path in sorted(found, reverse=True):  # .tmp before .old of the same mark
        with suppress(OSError):
            lock = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
            try:
                if not _lock(lock, wait=False):
                    continue
                if path.suffix == ".old" and path.with_suffix(".tmp").exists():
                    continue  # its writer lives, or the next sweep finds it alone
                if path.suffix == ".old" and not (home / name).exists():
                    path.rename(home / name)
                elif path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
            finally:
                os.close(lock)


def _force_tree_to_disk(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for name in names:
            if not (Path(place) / name).is_symlink():
                force_to_disk(Path(place) / name)
        force_to_disk(Path(place))


@contextmanager
def _reported(target: Path) -> Iterator[None]:
    """Turn an error of the disk into a WriteError that names ``target``."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        ours = error.filename is not None and str(target.parent) in str(error.filename)
        if error.errno in DISK or (ours and error.errno in (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)):
            raise WriteError.of(target, error.errno, error.strerror) from error
        raise
    except Exception as error:
        if type(error).__module__.startswith(("safetensors", "lightgbm", "catboost")) and DISK_TEXTS.search(str(error)):
            raise WriteError.of(target, errno.ENOSPC, str(error)) from error
        raise
