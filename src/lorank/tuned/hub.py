"""Tuned rankers on the Hub: a folder goes up with its model card, and comes back by its name.

What goes up is the folder of training as it is; only its card is rewritten so that it names the Hub's names in place of
paths of this machine. HF_ENDPOINT says where the Hub is, HF_TOKEN (or `hf auth login`) who is asking.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lorank.errors import LorankError, UsageError
from lorank.manifest import CARD
from lorank.tuned.naming import Named, read_object, recognise

README = "README.md"
LOGIN = "set HF_TOKEN to a token that may write, or run `hf auth login`"


@dataclass(frozen=True)
class Pushed:
    """What went up: the address of the model, the files, and the base where that is a folder of this machine."""

    url: str
    files: tuple[str, ...]
    local_base: str | None = None


def push(
    folder: str | Path,
    name: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str = "Upload a ranker tuned by lorank",
) -> Pushed:
    """Upload a tuned or saved ranker to the Hub, in one commit; the model there is made where it does not exist.

    Args:
        folder: A run folder, its ``model/``, or a folder that a ranker was saved to.
        name: The model's name on the Hub, owner/name.
        private: Whether a model that is made is private.
        revision: The branch; None is the main one.
        message: What the commit says.

    Raises:
        UsageError: For a folder without a ranker, a name that the Hub does not take, and where no token is set.
        LorankError: Where the Hub cannot be reached or refuses; the message says why.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    named = recognise(str(folder))
    if named.kind not in ("tuned", "saved", "peft") or named.folder is None:
        raise UsageError(f"{folder} is no ranker that was trained; give the --out folder of `lorank train`")
    check_name(name)
    if get_token() is None:
        raise UsageError(f"no token for the Hub; {LOGIN}")
    home, local = named.folder, local_base(named)
    paths = sorted(path for path in home.rglob("*") if path.is_file())
    operations = [
        CommitOperationAdd(
            path.relative_to(home).as_posix(),
            hub_card(path.read_text(encoding="utf-8"), name, local).encode() if path == home / README else path,
        )
        for path in paths
    ]
    with explain_refusals(name):
        api = HfApi(library_name="lorank")
        made = api.create_repo(name, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(made.repo_id, branch=revision, exist_ok=True)
        api.create_commit(made.repo_id, operations, commit_message=message, revision=revision)
    return Pushed(str(made), tuple(operation.path_in_repo for operation in operations), local)


def fetch(name: str) -> Path | None:
    """Return the local copy of a ranker that was pushed to the Hub; None where ``name`` is of another model.

    What cannot be reached is None too: whoever opens the name as a model then says so.
    """
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    try:
        hf_hub_download(name, CARD)
    except (EntryNotFoundError, HfHubHTTPError, HFValidationError, OSError, ValueError):
        return None
    with explain_refusals(name):
        return Path(snapshot_download(name))


def local_base(named: Named) -> str | None:
    """Return the base that a ranker names where it is a folder or file of this machine, else None."""
    assert named.folder is not None
    about = named.card or read_object(named.folder / "adapter_config.json")
    base = about.get("base") or about.get("base_model_name_or_path")
    return str(base) if base and Path(str(base)).exists() else None


def hub_card(text: str, name: str, local: str | None) -> str:
    """Return a model card that names the Hub's names: the ranker's own, and that of a packaged base.

    A base that is a folder of this machine is left out of the card's data, which the Hub would refuse.

    >>> card = '---\\nbase_model: "minilm"\\n---\\nlorank rank --ranker runs/a/model --query q'
    >>> print(hub_card(card, "me/mine", None))
    ---
    base_model: "sentence-transformers/all-MiniLM-L6-v2"
    ---
    lorank rank --ranker me/mine --query q
    """
    from lorank.ranking.scorers.pretrained import PACKAGED

    text = re.sub(r"--ranker \S+", f"--ranker {name}", text)
    text = re.sub(r'load_ranker\("[^"]*"\)', f'load_ranker("{name}")', text)
    found = re.search(r"^base_model: (.*)\n", text, re.MULTILINE)
    if found is None:
        return text
    base = json.loads(found[1])
    if base in PACKAGED:
        return text.replace(found[0], f"base_model: {json.dumps(PACKAGED[base][2])}\n", 1)
    return text.replace(found[0], "", 1) if base == local or Path(str(base)).exists() else text


def check_name(name: str) -> None:
    """Raise UsageError for a name that the Hub does not take."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UsageError(f"{name!r} is no name on the Hub ({error}); write owner/name") from error


@contextmanager
def explain_refusals(name: str) -> Iterator[None]:
    """Turn what the Hub answers, or that it does not, into an error that says what to do."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except OfflineModeIsEnabled as error:
        raise LorankError("HF_HUB_OFFLINE is set, and the Hub is not asked; unset it") from error
    except HfHubHTTPError as error:
        status = None if error.response is None else error.response.status_code
        said = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise LorankError(f"the Hub refused {name}: {REFUSALS.get(status, said)}") from error
    except Exception as error:
        package = type(error).__module__.partition(".")[0]
        if not isinstance(error, OSError) and package not in TRANSPORTS:
            raise
        raise LorankError(f"the Hub cannot be reached ({error}); check the network, and HF_ENDPOINT") from error


TRANSPORTS = ("httpx", "httpx2", "httpcore", "requests", "urllib3")
"""Packages whose errors say that a request did not come through; which one depends on huggingface_hub's version."""


REFUSALS = {
    401: f"it does not know the token; {LOGIN}",
    403: f"the token may not write there; {LOGIN}, and check the owner in the name",
    404: "it has no such owner or model; check the name",
    429: "too many requests; try again later",
}
"""What the Hub's refusals mean, by status; for others its own words are given."""
