"""The processes of `lorank serve`: one that opens the base and serves, or several of them below a parent."""

import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorank.cli.progress import console

if TYPE_CHECKING:
    from socket import socket as Socket

    from lorank.serving.http.peers import Peers
    from lorank.serving.requests.keys import Keys, NoKeys
    from lorank.serving.requests.limits import Limits


@dataclass(frozen=True)
class ServerOptions:
    """What every process that serves is given.

    Args:
        engine: The arguments of `lorank.serving.start.open_engine`.
        keys: Who may call what.
        limits: What each process takes on.
        aliases: Further names of models.
        names_in_metrics: Whether /metrics may name keys and adapters.
        traces: The OTLP endpoint; None for no traces.
        host: The address that the port is opened on.
        port: The port; 0 takes any free one.
        workers: The number of processes, 1 or more.
    """

    engine: Mapping[str, Any]
    keys: "Keys | NoKeys"
    limits: "Limits"
    aliases: Mapping[str, str]
    names_in_metrics: bool
    traces: str | None
    host: str
    port: int
    workers: int


def run_server(options: ServerOptions) -> int:
    """Serve until a signal ends it, print the address once all processes serve, and return the exit code."""
    say = partial(print, flush=True)
    if options.workers > 1:
        return _run_workers(options, say)
    _serve(options, say)
    return 0


def _run_workers(options: ServerOptions, say: Callable[[str], None]) -> int:
    """Keep several processes on one port; each opens the base for itself, and this one imports no model."""
    from lorank.serving.http.peers import Peers
    from lorank.serving.http.workers import Workers, open_socket

    with tempfile.TemporaryDirectory(prefix="lorank-counts-") as counts:

        def work(bound: "Socket", number: int, ready: Callable[[str], None]) -> None:
            import torch

            torch.set_num_threads(max(1, torch.get_num_threads() // options.workers))
            _serve(options, ready, bound, Peers(Path(counts), number))

        return Workers(options.workers, open_socket(options.host, options.port), work, say).run()


def _serve(
    options: ServerOptions, say: Callable[[str], None], bound: "Socket | None" = None, peers: "Peers | None" = None
) -> None:
    """Open the engine and serve; one of several processes serves on ``bound`` and has ``peers``."""
    from lorank.serving.http.app import make_app
    from lorank.serving.http.server import Server
    from lorank.serving.http.tracing import open_tracer
    from lorank.serving.start import open_engine

    tracer = None if options.traces is None else open_tracer(options.traces)
    with console.status(f"opening {options.engine['base']}") if peers is None else nullcontext():
        engine = open_engine(**options.engine, say=console.print, isolated=True)
    application = make_app(
        engine,
        options.keys,
        options.limits,
        aliases=options.aliases,
        names_in_metrics=options.names_in_metrics,
        tracer=tracer,
        share=1 / options.workers,
        peers=peers,
    )
    Server(application, options.host, options.port, say=say, listening=bound).run()
