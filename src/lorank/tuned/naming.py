"""What the name of a ranker names, decided from the name and the files alone, before torch is imported.

A name is a packaged model, a model's folder or Hub name, a folder that `lorank train` or ``save`` wrote, a PEFT folder,
a judge (``openai:URL``, ``openai:URL#MODEL``, ``causal:BASE``), or ``bm25``. Whatever else it is, the error says what
was found there and what would work.
"""

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lorank import index
from lorank.errors import UsageError
from lorank.manifest import CARD

Kind = Literal["tuned", "saved", "peft", "model", "judge", "bm25", "trees"]

BM25_NAME = "bm25"
TREES_NAME = "lambdamart"
CASCADE = "cascade.json"
"""What the run folder of a cascade holds from its beginning on."""
PEFT_CONFIG = "adapter_config.json"
WORKS = (
    "a ranker is a packaged model (minilm, smollm2), a Hub name (owner/name), a model's folder, the --out folder of "
    "`lorank train`, a PEFT folder, openai:URL#MODEL, causal:BASE, or bm25"
)
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")


@dataclass(frozen=True)
class Named:
    """What a name names: its ``kind``, and the ``folder`` that holds it where there is one.

    ``tuned`` is a folder of training, ``saved`` one of a ranker's ``save``, ``peft`` an adapter alone, ``model`` a
    base (a folder, a file or a name of the Hub), ``judge`` a language model that is asked, ``bm25`` the first
    stage, ``trees`` LambdaMART on simple features, fitted on the collection.
    """

    kind: Kind
    name: str
    folder: Path | None = None

    @property
    def card(self) -> dict[str, Any]:
        """The description lorank.json of a tuned or saved ranker."""
        return {} if self.folder is None else read_object(self.folder / CARD)


def recognise(name: str, flag: str = "") -> Named:
    """Return what ``name`` names.

    Args:
        name: As it was typed.
        flag: The option that it was given by, which begins the message.

    Raises:
        UsageError: For a name that resembles one that exists, and for a file or folder that holds no ranker; it says
            what was found and what would work.

    >>> recognise("bm25").kind, recognise("minilm").kind, recognise("causal:smollm2").kind
    ('bm25', 'model', 'judge')
    >>> recognise("minlm", "--ranker")
    Traceback (most recent call last):
    lorank.errors.UsageError: --ranker: there is no ranker 'minlm'; did you mean 'minilm'? ...
    """
    start = f"{flag}: " if flag else ""
    path = Path(name).expanduser()
    if path.is_dir():
        return _folder(path, name, start)
    if path.is_file():
        return _file(path, name, start)
    if name == BM25_NAME:
        return Named("bm25", name)
    if name == TREES_NAME:
        return Named("trees", name)
    scheme, colon, rest = name.partition(":")
    if colon:
        judges = index.names("judge")
        if scheme in judges and rest:
            return Named("judge", name)
        near = difflib.get_close_matches(scheme, judges, 1)
        hint = f"did you mean {near[0]}:{rest}? " if near and near[0] != scheme else ""
        example = "give the URL or the model after the colon; " if scheme in judges else ""
        raise UsageError(f"{start}there is no judge {name!r}; {hint}{example}{WORKS}")
    _refuse_slips(name, path, start)
    return Named("model", name)


def _refuse_slips(name: str, path: Path, start: str) -> None:
    """Raise UsageError for a path that leads nowhere, and for a name that resembles one that exists."""
    parent = path.parent
    siblings = [each.name for each in parent.iterdir() if each.is_dir()] if parent.is_dir() else []
    beside = difflib.get_close_matches(path.name, siblings, 1, 0.7)
    packaged = [*index.names("base"), BM25_NAME, TREES_NAME]
    if name in packaged:
        return
    if "/" not in name:
        near = difflib.get_close_matches(name, packaged, 1, 0.7) or beside
        if near:
            raise UsageError(f"{start}there is no ranker {name!r}; did you mean {near[0]!r}? {WORKS}")
        return
    if beside:
        raise UsageError(f"{start}there is no folder {name}; did you mean {parent / beside[0]}? {WORKS}")
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        nearest = next((str(each) for each in path.parents if each.is_dir()), ".")
        raise UsageError(f"{start}there is no folder {name} (its path exists as far as {nearest}); {WORKS}")


def _file(path: Path, name: str, start: str) -> Named:
    if path.suffix == ".gguf":
        return Named("model", name)
    what = {
        ".toml": "a recipe: give it to `lorank train`",
        ".run": "a run: give it to --run",
    }.get(path.suffix, "a file")
    if path.suffix in WEIGHTS or path.name in ("run.json", "config.json", CARD, PEFT_CONFIG):
        what = f"one file of a ranker: give its folder, {path.parent}"
    raise UsageError(f"{start}{name} is {what}; {WORKS}")


def _folder(path: Path, name: str, start: str) -> Named:
    cards = {home: read_object(home / CARD) for home in (path / "model", path)}
    for home, card in cards.items():
        if "mix" in card:
            return Named("tuned", name, home)
    for home, card in cards.items():
        if card.get("kind") and "options" in card:
            return Named("saved", name, home)
    if (path / PEFT_CONFIG).is_file():
        above = path.resolve().parent
        if "mix" in read_object(above / CARD):
            run = above.parent if above.name == "model" else above
            raise UsageError(f"{start}{name} is the adapter inside a tuned ranker; give that, {run}")
        return Named("peft", name, path)
    if (path / "config.json").is_file():
        return Named("model", name, path)
    raise UsageError(f"{start}{name} holds no ranker: {describe(path)}; {WORKS}")


def describe(folder: Path) -> str:
    """Return in words what a folder that is no ranker holds, and what to do about it."""
    inside = sorted(folder.iterdir())
    names = [each.name for each in inside]
    if not names:
        return "it is empty"
    if any(each.name == "checkpoints" for each in inside):
        return "it is a run that did not end (it has checkpoints); go on with the same `lorank train` and --resume"
    if CASCADE in names:
        return "it is a cascade that did not end; go on with the same `lorank train --cascade` and --resume"
    rankers = [each.name for each in inside if each.is_dir() and _is_ranker(each)]
    if rankers:
        shown = ", ".join(str(folder / each) for each in rankers[:5])
        return f"rankers lie in its folders; give one of them: {shown}{', ...' if len(rankers) > 5 else ''}"
    if "corpus.jsonl" in names or "queries.jsonl" in names:
        return "it is a collection; give it to --data"
    if any(name.startswith("adapter_model.") for name in names):
        return f"it has an adapter's weights and no {PEFT_CONFIG}; fetch the whole folder"
    weights = [name for name in names if name.endswith(WEIGHTS)]
    if weights:
        return f"it has weights ({weights[0]}) and no config.json; fetch the whole folder"
    if any(name.endswith((".onnx", ".xml")) for name in names):
        return "it is an export (ONNX, OpenVINO); give the folder that it was made of, and choose --path"
    shown = ", ".join(names[:6])
    return f"it holds {shown}{', ...' if len(names) > 6 else ''}, and neither config.json nor {CARD}"


def _is_ranker(folder: Path) -> bool:
    marks = (CARD, PEFT_CONFIG, "config.json")
    return any((home / mark).is_file() for home in (folder, folder / "model") for mark in marks)


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, an empty one where there is none.

    Raises UsageError for a file that is there and holds something else.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is not JSON ({error}); save the ranker again") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} is not a JSON object; save the ranker again")
    return found
