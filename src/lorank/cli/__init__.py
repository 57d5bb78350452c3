"""The command line: one file a command; progress goes to stderr, results to stdout.

Exit codes: 0 done, 1 failed, 2 wrong use.
"""

import sys

from lorank.errors import LorankError, UsageError


def main() -> None:
    """Run the command line and exit with its code."""
    from lorank.cli.app import app

    try:
        app()
    except UsageError as error:
        sys.exit(_say(error, 2))
    except LorankError as error:
        sys.exit(_say(error, 1))
    except KeyboardInterrupt:
        sys.exit(_say("interrupted; `--resume` takes up a training run where it stopped", 1))


def _say(error: object, code: int) -> int:
    print(f"lorank: {error}", file=sys.stderr)
    return code
