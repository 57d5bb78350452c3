"""`lorank push`: a tuned ranker to the Hub."""

from pathlib import Path
from typing import Annotated

import typer

from lorank.cli.progress import console, stage


def push(
    run: Annotated[Path, typer.Argument(help="The --out folder of `lorank train`.")],
    name: Annotated[str, typer.Argument(help="The model's name on the Hub, owner/name; it is made if it is new.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new model private.")] = False,
    revision: Annotated[str | None, typer.Option(help="The branch. [default: main]")] = None,
    message: Annotated[str, typer.Option(help="What the commit says.")] = "Upload a ranker tuned by lorank",
) -> None:
    """Upload a tuned ranker with its model card to the Hub; `--ranker owner/name` then opens it anywhere.

    The token is read from HF_TOKEN, or is that of `hf auth login`; HF_ENDPOINT names another Hub.

    Example: `lorank push runs/first me/my-ranker --private`
    """
    from lorank.tuned.hub import push as upload

    with stage(f"upload {run} to {name}"):
        done = upload(run, name, private=private, revision=revision, message=message)
    console.print(f"{len(done.files)} files")
    if done.local_base is not None:
        console.print(
            f"the base, {done.local_base}, is a folder of this machine: elsewhere the ranker opens only where that "
            f"folder is too; `lorank adapter merge {run} --out whole` makes a model that needs none",
            soft_wrap=True,
            markup=False,
        )
    print(done.url)
