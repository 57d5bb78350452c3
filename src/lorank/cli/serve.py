"""`lorank serve`: one base model and many adapters behind the rerank API."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from lorank import index
from lorank.cli.progress import console
from lorank.errors import UsageError, unknown_name


class LogStyle(StrEnum):
    """How the log is written."""

    text = "text"
    json = "json"


def serve(
    base: Annotated[str, typer.Option(help="The model under all adapters: minilm, a folder, or a Hub name.")],
    adapters: Annotated[
        str | None,
        typer.Option(
            help="Adapter folders, each called by its name: a folder of them, or a URL such as s3://bucket/adapters."
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="bi-encoder or cross-encoder; default: what the adapters were made "
            "on, else what the base was made for."
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(help="Tokens that are read of query and document; default: as the adapters were trained."),
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Format of scoring: float32, bfloat16, or auto: what this machine has instructions for.")
    ] = "auto",
    path: Annotated[
        str | None,
        typer.Option(
            help="How one model's rows are computed: torch-int8, openvino-bfloat16, "
            "...; auto tests those that are installed and takes the fastest "
            "that keeps the order. [default: torch in --dtype]"
        ),
    ] = None,
    merged_share: Annotated[
        float | None,
        typer.Option(
            help="Share of the traffic, above 0.5, from which an adapter gets a merged copy. [default: never]"
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 8080,
    host: Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 for every interface.")] = "127.0.0.1",
    keys: Annotated[
        Path | None, typer.Option(help="Key file, see `lorank key`; else LORANK_API_KEYS; else no keys.")
    ] = None,
    latency_ms: Annotated[float, typer.Option(help="Target at half load; batches take a quarter of it.")] = 500.0,
    timeout_s: Annotated[float, typer.Option(help="A request not answered in it is refused with 504.")] = 60.0,
    max_documents: Annotated[int, typer.Option(help="Documents of a request that is not streamed.")] = 1000,
    max_body_mb: Annotated[float, typer.Option(help="MiB of one request.")] = 8.0,
    cache_mb: Annotated[float, typer.Option(help="MiB of known scores; 0 turns it off.")] = 64.0,
    memory_mb: Annotated[
        float, typer.Option(help="MiB of adapters in memory; least recently used leave first.")
    ] = 256.0,
    drain_s: Annotated[float, typer.Option(help="Seconds for accepted requests after SIGTERM.")] = 30.0,
    log_format: Annotated[
        LogStyle, typer.Option(help="json: one object a line, with request id, tenant, rows, queue and score time.")
    ] = LogStyle.text,
    quiet: Annotated[bool, typer.Option("--quiet", help="Log only what went wrong, not every request.")] = False,
    seed: Annotated[int, typer.Option(help="Accepted for uniformity; scoring is deterministic.")] = 0,
) -> None:
    """Serve the rerank API of Jina, Cohere and text-embeddings-inference on one port.

    Example: `lorank serve --base minilm --adapters adapters/ --port 8080`
    """
    index.check_base(base, "--base")
    if kind is not None:
        index.check("kind", kind, "--kind")
    if path is not None:
        index.check("path", path, "--path", also=("auto",))
    if dtype not in ("float32", "bfloat16", "auto"):
        raise unknown_name("--dtype", dtype, ("float32", "bfloat16", "auto"))
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UsageError(f"the server needs {error.name}: pip install 'lorank[serve]'") from error
    from lorank.serving.http.app import make_app
    from lorank.serving.http.logs import open_log
    from lorank.serving.http.server import Server
    from lorank.serving.requests.keys import NoKeys, open_keys
    from lorank.serving.requests.limits import Limits
    from lorank.serving.start import open_engine

    limits = Limits(
        documents=max_documents,
        body_bytes=int(max_body_mb * 2**20),
        timeout_s=timeout_s,
        latency_ms=latency_ms,
        cache_bytes=int(cache_mb * 2**20),
        drain_s=drain_s,
    )
    known = open_keys(keys)
    open_log(log_format, quiet=quiet)
    with console.status(f"opening {base}"):
        engine = open_engine(
            base,
            adapters,
            kind=kind,
            max_length=max_length,
            dtype=dtype,
            memory_bytes=int(memory_mb * 2**20),
            path=path,
            merged_share=merged_share,
            say=console.print,
        )
    if isinstance(known, NoKeys) and host not in ("127.0.0.1", "::1", "localhost"):
        console.print(f"no keys: whoever reaches {host}:{port} may call every adapter; see `lorank key`")
    Server(make_app(engine, known, limits), host, port, say=partial(print, flush=True)).run()
