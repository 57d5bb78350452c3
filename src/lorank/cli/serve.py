"""`lorank serve`: one base model and many adapters behind the rerank API."""

import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lorank import index
from lorank.cli.options import key_value
from lorank.cli.progress import console
from lorank.cli.server_process import ServerOptions, run_server
from lorank.errors import DataError, UsageError, unknown_name


class LogStyle(StrEnum):
    """How the log is written."""

    text = "text"
    json = "json"


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take the options of a TOML file as defaults; every key must be an option, and is named where it is none."""
    if path is None:
        return None
    try:
        rows = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(path, None, f"not TOML: {error}", "see the manual's example") from error
    options = {parameter.name: parameter for parameter in context.command.params if parameter.name != "config"}
    found = {}
    for key, value in rows.items():
        name = key.replace("-", "_")
        if name == "aliases" and isinstance(value, dict):
            name, value = "alias", [f"{alias}={model}" if model else alias for alias, model in value.items()]
        if name not in options:
            known = sorted(option.replace("_", "-") for option in (*options, "aliases"))
            raise DataError(path, None, f"{key!r} is no option of `lorank serve`", f"known: {', '.join(known)}")
        if isinstance(value, dict) or (isinstance(value, list) and not options[name].multiple):
            raise DataError(path, None, f"{key!r} takes one value", "write it as on the command line")
        found[name] = value
    context.default_map = {**(context.default_map or {}), **found}
    return path


def read_alias(text: str) -> tuple[str, str]:
    """Return another name for a model, and the model; "" for what a request without a model gets.

    >>> read_alias("rerank-v3.5=acme"), read_alias("rerank-v3.5")
    (('rerank-v3.5', 'acme'), ('rerank-v3.5', ''))
    """
    name, _, model = text.partition("=")
    if not name or not text.isprintable() or (text.endswith("=") and not model):
        raise UsageError(f"--alias {text!r}: write NAME=MODEL, or NAME alone for each key's own adapter")
    return name, model


def serve(
    base: Annotated[
        str,
        typer.Option(
            help="The model under all adapters: minilm, a folder, or a Hub name; or a tuned ranker to serve by itself."
        ),
    ],
    adapters: Annotated[
        str | None,
        typer.Option(
            help="Adapter folders, each called by its name: a folder of them, or a URL such as s3://bucket/adapters."
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="bi-encoder, cross-encoder or causal; adapters of another kind are refused. "
            "[default: what the base was made for]"
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Which label of a classifier of several is the score: its name or number.")
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(help="Tokens that are read of query and document. [default: the base's own]"),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="How else the base reads, key=value: pooling=mean, query_prefix=...; may be repeated."),
    ] = None,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Start where there is no adapter yet; new ones are found later.")
    ] = False,
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
    max_connections: Annotated[int, typer.Option(min=1, help="Open connections in all.")] = 1024,
    max_connections_per_address: Annotated[
        int, typer.Option(min=1, help="Open connections of one address; set it to the former behind a proxy.")
    ] = 256,
    backlog_s: Annotated[float, typer.Option(help="429 where more seconds of a caller's own work wait.")] = 5.0,
    ready_s: Annotated[float, typer.Option(help="/health/ready is 503 where a batch takes longer.")] = 20.0,
    alias: Annotated[
        list[str] | None,
        typer.Option(
            help="Another name for a model: rerank-v3.5=acme, or rerank-v3.5 alone for each key's own adapter."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes, each with the base in memory.")] = 1,
    names_in_metrics: Annotated[
        bool, typer.Option("--names-in-metrics", help="Let /metrics name keys and adapters.")
    ] = False,
    traces: Annotated[
        str | None, typer.Option(help="OTLP endpoint for traces, such as http://localhost:4318/v1/traces.")
    ] = None,
    drain_s: Annotated[float, typer.Option(help="Seconds for accepted requests after SIGTERM.")] = 30.0,
    log_format: Annotated[
        LogStyle, typer.Option(help="json: one object a line, with request id, tenant, rows, queue and score time.")
    ] = LogStyle.text,
    quiet: Annotated[bool, typer.Option("--quiet", help="Log only what went wrong, not every request.")] = False,
    config: Annotated[
        Path | None,
        typer.Option(is_eager=True, callback=read_config, help="TOML file with any of these options; see the manual."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Accepted for uniformity; scoring is deterministic.")] = 0,
) -> None:
    """Serve the rerank API of Jina, Cohere and text-embeddings-inference on one port.

    Each option is also read from the environment, --max-body-mb from LORANK_SERVE_MAX_BODY_MB, and from --config; the
    command line goes before the environment, and that before the file.

    Examples:

        lorank serve --base runs/first --port 8080

        lorank serve --base minilm --adapters adapters/ --keys keys.txt --port 8080
    """
    _check_names(base, kind, path, dtype)
    _check_packages()
    from lorank.serving.http.logs import open_log
    from lorank.serving.requests.keys import NoKeys, open_keys
    from lorank.serving.requests.limits import Limits

    limits = Limits(
        documents=max_documents,
        body_bytes=int(max_body_mb * 2**20),
        timeout_s=timeout_s,
        latency_ms=latency_ms,
        cache_bytes=int(cache_mb * 2**20),
        connections=max_connections,
        connections_of_one=max_connections_per_address,
        backlog_s=backlog_s,
        ready_s=ready_s,
        drain_s=drain_s,
    )
    engine = {
        "base": base,
        "adapters": adapters,
        "kind": kind,
        "label": label,
        "max_length": max_length,
        "options": dict(key_value(text, "--option") for text in option or []),
        "may_be_empty": allow_empty,
        "dtype": dtype,
        "path": path,
        "merged_share": merged_share,
        "memory_bytes": int(memory_mb * 2**20),
    }
    aliases = dict(read_alias(text) for text in alias or ())
    known = open_keys(keys)
    open_log(log_format, quiet=quiet)
    if isinstance(known, NoKeys) and host not in ("127.0.0.1", "::1", "localhost"):
        console.print(f"no keys: whoever reaches {host}:{port} may call every adapter; see `lorank key`")
    options = ServerOptions(engine, known, limits, aliases, names_in_metrics, traces, host, port, workers)
    if code := run_server(options):
        raise typer.Exit(code)


def _check_names(base: str, kind: str | None, path: str | None, dtype: str) -> None:
    """Raise UsageError for a name that does not exist, before anything is read."""
    index.check_base(base, "--base")
    if kind is not None:
        index.check("kind", kind, "--kind")
    if path is not None:
        index.check("path", path, "--path", also=("auto",))
    if dtype not in ("float32", "bfloat16", "auto"):
        raise unknown_name("--dtype", dtype, ("float32", "bfloat16", "auto"))


def _check_packages() -> None:
    """Raise UsageError where a package that the server needs is missing."""
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UsageError(f"the server needs {error.name}: pip install 'lorank[serve]'") from error
