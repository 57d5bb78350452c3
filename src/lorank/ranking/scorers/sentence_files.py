"""What the sentence-transformers files of a model folder say: modules, prompts, similarity, lengths, tokens of answers.

Files: modules.json and a config.json in the folder of each module, config_sentence_transformers.json (prompts, the
default prompt, similarity, activation), and sentence_bert_config.json (lengths, lower case, what is read how).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorank.errors import UsageError
from lorank.ranking.scorers.folders import write_json
from lorank.ranking.scorers.pretrained import read_json

TRANSFORMER_FILES = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)


@dataclass(frozen=True)
class Module:
    """One module of a folder: its class (``kind``, and its last ``name``), the folder inside the folder, and its
    configuration."""

    kind: str
    path: str
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name of its class, without the modules that it lies in."""
        return self.kind.rpartition(".")[2]


@dataclass(frozen=True)
class SentenceFiles:
    """What a folder's files say; ``found`` is False where it has no modules.json."""

    source: str
    modules: tuple[Module, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    transformer: Mapping[str, Any] = field(default_factory=dict)
    found: bool = False

    @classmethod
    def read(cls, source: str) -> "SentenceFiles":
        """Read the files of a folder or Hub name; what is missing is empty."""
        listed = read_json(source, "modules.json")
        settings = read_json(source, "config_sentence_transformers.json")
        transformer = next((found for name in TRANSFORMER_FILES if (found := read_json(source, name))), None)
        modules = tuple(
            Module(
                str(entry["type"]),
                str(entry.get("path", "")),
                as_mapping(read_json(source, f"{entry['path']}/config.json") if entry.get("path") else None),
            )
            for entry in (listed if isinstance(listed, list) else [])
        )
        return cls(source, modules, as_mapping(settings), as_mapping(transformer), isinstance(listed, list))

    def write(self, folder: Path) -> None:
        """Write the files as they were read into another folder of the same model."""
        listed = [
            {"idx": place, "name": str(place), "path": module.path, "type": module.kind}
            for place, module in enumerate(self.modules)
        ]
        for name, data in (
            ("modules.json", listed if self.found else None),
            ("config_sentence_transformers.json", self.settings),
            ("sentence_bert_config.json", self.transformer),
            *((f"{module.path}/config.json", module.config) for module in self.modules if module.path),
        ):
            if data:
                write_json(folder / name, data)

    def module(self, name: str) -> Module | None:
        """Return the first module of a class, None where there is none."""
        return next((module for module in self.modules if module.name == name), None)

    def refuse_other_than(self, known: tuple[str, ...], kind: str) -> None:
        """Raise UsageError for a module that a kind of ranker does not apply: scores would not be the model's."""
        for module in self.modules:
            if module.name not in known:
                raise UsageError(
                    f"{self.source} has a {module.name} module, which a {kind} here does not apply; choose a model of "
                    f"{', '.join(known)}"
                )
        first = self.modules[0] if self.modules else None
        if first is not None and first.name == "Transformer" and first.path:
            raise UsageError(
                f"{self.source} keeps its transformer in {first.path}/; move the files of that folder up into it, and "
                f'write "path": "" for it in modules.json'
            )

    @property
    def max_length(self) -> int | None:
        """The most tokens of a text, None where the files do not say."""
        length = self.transformer.get("max_seq_length")
        return int(length) if length else None

    @property
    def lower_case(self) -> bool:
        """Whether texts are made small before they are tokenised."""
        return bool(self.transformer.get("do_lower_case"))

    @property
    def similarity(self) -> str | None:
        """The name of the similarity of two vectors, None where the files do not say."""
        return self.settings.get("similarity_fn_name")

    @property
    def query_prompt(self) -> str:
        """What goes before a query: the prompt called query, else the default prompt, else nothing."""
        return str(as_mapping(self.settings.get("prompts")).get("query") or "") or self.default_prompt

    @property
    def document_prompt(self) -> str:
        """What goes before a document: the prompt called document, passage or corpus, else the default prompt where
        that is not the query's own, else nothing."""
        prompts = as_mapping(self.settings.get("prompts"))
        own = next((str(prompts[name]) for name in ("document", "passage", "corpus") if prompts.get(name)), "")
        return own or ("" if self.settings.get("default_prompt_name") == "query" else self.default_prompt)

    @property
    def default_prompt(self) -> str:
        """The text of the default prompt, empty where there is none."""
        name = self.settings.get("default_prompt_name")
        prompts = as_mapping(self.settings.get("prompts"))
        if name is not None and name not in prompts:
            raise UsageError(
                f"{self.source}: config_sentence_transformers.json names the default prompt {name!r}, which is none of "
                f"its prompts ({', '.join(prompts) or 'there are none'})"
            )
        return "" if name is None else str(prompts[name] or "")

    @property
    def reads_messages(self) -> bool | None:
        """Whether texts go through the chat template; None where the files do not say."""
        read = self.transformer.get("modality_config")
        if isinstance(read, Mapping):
            return "message" in read
        return False if self.found else None

    @property
    def template_options(self) -> dict[str, Any]:
        """What the chat template is given beside the messages."""
        options = as_mapping(self.transformer.get("processing_kwargs")).get("chat_template")
        return {key: value for key, value in as_mapping(options).items() if key != "restore_suffix"}


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return ``value`` where it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}
