"""The options of every command: ``--import``, methods of one's own, and ``--quiet``."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from lorank import plugins

OPTION = typer.Option(
    "--import",
    metavar="FILE",
    help="A Python file, or a module, with methods of your own (see `lorank.plugins`); repeat it. "
    "LORANK_IMPORT does the same.",
)
QUIET = typer.Option("--quiet", "-q", help="No progress and no notes on stderr: only what went wrong.")


def with_imports(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with the options ``--import`` and ``--quiet``, which are followed before anything else.

    A command that has a ``quiet`` of its own keeps it.
    """
    signature = inspect.signature(command)
    own_quiet = "quiet" in signature.parameters

    @wraps(command)
    def run(*args: Any, imports: list[str] | None = None, **kwargs: Any) -> Any:
        if not own_quiet:
            from lorank.cli.progress import report_notes

            report_notes(kwargs.pop("quiet", False))
        plugins.use(imports or [])
        return command(*args, **kwargs)

    added: dict[str, Any] = {"imports": Annotated[list[str] | None, OPTION]}
    if not own_quiet:
        added["quiet"] = Annotated[bool, QUIET]
    defaults = {"imports": None, "quiet": False}
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=kind)
        for name, kind in added.items()
    ]
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *more])  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, **added}
    return run
