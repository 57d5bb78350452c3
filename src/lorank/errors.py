"""Errors that a user can act on: each says what is wrong, where, and what to do about it."""

from collections.abc import Callable
from pathlib import Path


class LorankError(Exception):
    """Something failed for a reason that the user can mend; the command line exits with 1."""


class UsageError(LorankError):
    """A name, option or combination of options that cannot work; the command line exits with 2."""


class DataError(LorankError):
    """Bad input data.

    ``path:line: problem; remedy`` -- the line is 1-based and left out where the whole file is meant.

    >>> raise DataError("qrels.tsv", 7, "relevance 'x' is not a number", "write an integer from 0 up")
    Traceback (most recent call last):
    lorank.errors.DataError: qrels.tsv:7: relevance 'x' is not a number; write an integer from 0 up
    """

    def __init__(self, path: str | Path, line: int | None, problem: str, remedy: str = "") -> None:
        self.path, self.line, self.problem, self.remedy = Path(path), line, problem, remedy
        place = f"{path}:{line}" if line is not None else f"{path}"
        super().__init__(f"{place}: {problem}" + (f"; {remedy}" if remedy else ""))


OnBad = Callable[[DataError, object], None]
"""What a reader calls with the error of a bad row and the row as it stands, in place of raising the error."""


def report_bad(error: DataError, row: object, on_bad: OnBad | None) -> None:
    """Call ``on_bad`` with a bad row's error and the row; raise the error where there is none, or it is of the file.

    >>> report_bad(DataError("a.tsv", 2, "an empty column"), "x", lambda error, row: print(error, repr(row)))
    a.tsv:2: an empty column 'x'
    """
    if on_bad is None or error.line is None:
        raise error
    on_bad(error, row)


class WriteError(LorankError, OSError):
    """A file or folder that cannot be written, as the disk is full or forbids it; what stood there is unchanged."""

    @classmethod
    def of(cls, path: str | Path, number: int | None, reason: str | None) -> "WriteError":
        """Return the error for ``path``, with the system's number and words.

        >>> str(WriteError.of("model", 28, "No space left on device"))
        'model cannot be written (No space left on device); what stood there is unchanged, make room and save again'
        """
        remedy = "what stood there is unchanged, make room and save again"
        error = cls(f"{path} cannot be written ({reason}); {remedy}")
        error.errno, error.filename = number, str(path)
        return error

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in a run that was saved first; the message says where, and how to go on (exit code 130)."""


def unknown_name(kind: str, name: str, known: object) -> UsageError:
    """Return the error for a name that no registry holds, with the nearest known names.

    >>> str(unknown_name("loss", "sofmax", ["softmax", "bce"]))
    "unknown loss 'sofmax'; did you mean 'softmax'? known: bce, softmax"
    """
    import difflib

    names = sorted(known)  # type: ignore[call-overload]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UsageError(f"unknown {kind} {name!r}; {hint}known: {', '.join(names)}")
