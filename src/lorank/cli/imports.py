"""`--import`: methods of one's own, for every command."""

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


def with_imports(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with the option ``--import``, which is followed before anything else."""

    @wraps(command)
    def run(*args: Any, imports: list[str] | None = None, **kwargs: Any) -> Any:
        plugins.use(imports or [])
        return command(*args, **kwargs)

    signature = inspect.signature(command)
    kind = Annotated[list[str] | None, OPTION]
    added = inspect.Parameter("imports", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), added])  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, "imports": kind}
    return run
