"""`lorank key` draws an API key; `lorank keys` lists, revokes, expires and rotates those of a key file."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from lorank.cli.progress import console

keys = typer.Typer(
    no_args_is_help=True, help="List, revoke, expire and rotate the API keys of a key file; `lorank key` draws one."
)

KeyFilePath = Annotated[Path, typer.Option("--keys", help="The key file.")]
Who = Annotated[str, typer.Argument(help="A key's name, which means all keys of that name, or its id.")]
Rate = Annotated[float | None, typer.Option(help="[default: no limit]")]


def key(
    name: Annotated[str, typer.Argument(help="Whose key it is: letters, digits, . _ -")],
    keys: Annotated[Path, typer.Option(help="Key file to add it to; made where it is missing.")],
    adapters: Annotated[
        str, typer.Option(help="Adapters that it opens, parted by commas; * for all. Default: NAME.")
    ] = "",
    expires: Annotated[
        str | None, typer.Option(help="When it ends: 2027-01-31, a time in ISO 8601, or 30d, 12h. [default: never]")
    ] = None,
    requests_per_minute: Rate = None,
    tokens_per_minute: Rate = None,
    seed: Annotated[int, typer.Option(help="Accepted for uniformity; keys come from the system's random source.")] = 0,
) -> None:
    """Draw an API key, print it once, and add its hash to a key file.

    Example: `lorank key acme --keys keys.txt --adapters acme-en,acme-fr`
    """
    from lorank.errors import UsageError
    from lorank.serving.requests.key_file import edit_keys, line_of, when
    from lorank.serving.requests.keys import ADAPTERS, hash_key, new_key, read_keys

    if not ADAPTERS.fullmatch(adapters or name):
        raise UsageError(f"--adapters {adapters!r}: write names parted by commas, or * for all")
    drawn = new_key()
    end = None if expires is None else when(expires)
    row = f"{name} {hash_key(drawn)} {adapters or name}"
    (_, caller), *_ = read_keys(row, "this key")
    caller = replace(caller, expires=end, requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute)
    row = line_of(hash_key(drawn), caller)
    read_keys(row, "this key")
    with edit_keys(keys) as edit:
        edit.add(row)
        edit.save(show=lambda: print(drawn, flush=True))  # where it cannot be shown, it is not added
    console.print(f"added to {keys}; the key is shown this once")


@keys.command("list")
def list_keys(
    keys: KeyFilePath, as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False
) -> None:
    """List the keys of a file: id, name, adapters, end, rates. The keys themselves are not stored.

    Example: `lorank keys list --keys keys.txt`
    """
    from lorank.errors import LorankError
    from lorank.serving.requests.key_file import KeyEdit, format_time

    if not keys.is_file():
        raise LorankError(f"{keys}: no such key file; make one with `lorank key NAME --keys {keys}`")
    for row in KeyEdit(keys).rows():
        caller = row.caller
        over = caller.expires is not None and caller.expires <= time.time()
        fields = {
            "id": row.id,
            "name": caller.name,
            "adapters": "*" if caller.adapters is None else ",".join(sorted(caller.adapters)),
            "expires": None if caller.expires is None else format_time(caller.expires),
            "state": "expired" if over else "valid",
            "requests_per_minute": caller.requests_per_minute,
            "tokens_per_minute": caller.tokens_per_minute,
        }
        print(json.dumps(fields) if as_json else "\t".join("-" if v is None else str(v) for v in fields.values()))


@keys.command()
def revoke(who: Who, keys: KeyFilePath) -> None:
    """Take a key out of the file; a running server refuses it within a second.

    Example: `lorank keys revoke acme --keys keys.txt`
    """
    from lorank.serving.requests.key_file import edit_keys

    with edit_keys(keys) as edit:
        found = edit.of(who)
        edit.replace(found, lambda row: None)
    console.print(f"revoked: {', '.join(f'{row.caller.name} ({row.id})' for row in found)}")


@keys.command()
def expire(
    who: Who,
    keys: KeyFilePath,
    at: Annotated[str, typer.Option(help="2027-01-31, a time in ISO 8601, or a span from now such as 30d.")],
) -> None:
    """Set the end of a key.

    Example: `lorank keys expire acme --at 30d --keys keys.txt`
    """
    from lorank.serving.requests.key_file import edit_keys, format_time, line_of, when

    end = when(at)
    with edit_keys(keys) as edit:
        found = edit.of(who)
        edit.replace(found, lambda row: line_of(row.digest, replace(row.caller, expires=end)))
    console.print(f"{', '.join(f'{row.caller.name} ({row.id})' for row in found)}: until {format_time(end)}")


@keys.command()
def rotate(
    who: Who,
    keys: KeyFilePath,
    grace: Annotated[str, typer.Option(help="How long the old key stays valid: 7d, 12h, or 0s.")] = "1d",
) -> None:
    """Draw a new key with the same adapters and rates, print it once, and let the old one end.

    Example: `lorank keys rotate acme --grace 7d --keys keys.txt`
    """
    from lorank.errors import UsageError
    from lorank.serving.requests.key_file import edit_keys, format_time, line_of, when
    from lorank.serving.requests.keys import hash_key, new_key

    drawn, now = new_key(), time.time()
    end = when(grace, now)
    with edit_keys(keys) as edit:
        old = [row for row in edit.of(who) if row.caller.expires is None or row.caller.expires > now]
        if not old:
            raise UsageError(f"{keys}: every key called {who!r} has ended; draw a new one with `lorank key`")
        edit.replace(
            old, lambda row: line_of(row.digest, replace(row.caller, expires=min(end, row.caller.expires or end)))
        )
        edit.add(line_of(hash_key(drawn), replace(old[-1].caller, expires=None)))
        edit.save(show=lambda: print(drawn, flush=True))
    console.print(f"the old key ends at {format_time(end)}; the new one is shown this once")
