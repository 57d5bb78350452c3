"""The command line: one file a command; progress goes to stderr, results to stdout.

Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted.
"""

import sys

from lorank.errors import LorankError, UsageError
from lorank.files import DISK


def main() -> None:
    """Run the command line and exit with its code."""
    from lorank.cli.app import app

    try:
        app()
    except UsageError as error:
        sys.exit(_say(error, 2))
    except LorankError as error:
        sys.exit(_say(error, 1))
    except OSError as error:  # a full disk, a file that may not be read
        if error.errno not in DISK and not isinstance(error, PermissionError):
            raise
        sys.exit(_say(error, 1))
    except KeyboardInterrupt:
        sys.exit(_say("interrupted", 130))


def _say(error: object, code: int) -> int:
    print(f"lorank: {error}", file=sys.stderr)
    return code
