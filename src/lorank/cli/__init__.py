"""The command line: one file a command; progress goes to stderr, results to stdout.

Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted.
"""

import contextlib
import os
import sys

from lorank.errors import LorankError, UsageError
from lorank.files import DISK


def main() -> None:
    """Run the command line and exit with its code."""
    from lorank.cli.app import app

    try:
        try:
            app(prog_name="lorank")
        finally:
            sys.stdout.flush()
    except UsageError as error:
        sys.exit(_say(error, 2))
    except LorankError as error:
        sys.exit(_say(error, 1))
    except BrokenPipeError:
        _close_stdout()
        sys.exit(1)
    except OSError as error:  # a full disk, a file that may not be read
        if error.errno not in DISK and not isinstance(error, PermissionError):
            raise
        _close_stdout()
        sys.exit(_say(error, 1))
    except KeyboardInterrupt:
        sys.exit(_say("interrupted", 130))


def _close_stdout() -> None:
    """Let what is still to be printed go nowhere: trying again at the end would fail again."""
    with contextlib.suppress(OSError, ValueError):  # a stdout that is no file needs none of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(error: object, code: int) -> int:
    print(f"lorank: {error}", file=sys.stderr)
    return code
