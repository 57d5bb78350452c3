"""The pages of the site that are made from the code: a hook of mkdocs (see mkdocs.yml), so nothing is committed.

Commands from the command line's own options; recipes from the settings classes; methods from the catalogue and the
docstrings; losses from their registry; contracts from the classes that a plugin derives from; the pages of benchmarks/.
"""

import ast
import dataclasses
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args, get_origin

from docs_examples import fence_examples

ROOT = Path(__file__).resolve().parent.parent
AREAS = {
    "adapters.form": "Forms of update",
    "adapters.init": "Starts",
    "adapters.rank": "Rank budgets",
    "adapters.optim": "Rules and scalings",
    "adapters.moe": "Routers",
    "adapters.merge": "Merging and moving adapters",
    "adapters.serve": "Serving adapters",
    "losses.supervised": "Losses",
    "losses.preference": "Losses of preferences",
    "losses.rl": "Rewards and policy gradients",
    "rerank": "Reranking",
    "aggregate": "Consensus",
    "retrieve": "Retrieval",
    "models": "Rankers",
    "evaluate": "Evaluation",
    "active": "Active learning",
    "fair": "Fairness",
    "recsys": "Recommendation",
    "robust": "Robustness",
    "calibrate": "Calibration",
    "clicks": "Clicks",
    "unbiased": "Learning from clicks",
}
"""Titles of the catalogue's areas; an area without one is called by its name."""

INPUTS = {
    "items": "",
    "lists": "",
    "users": 'rows with `"user"`',
    "outside": "rows in which every label is 0 (nothing was chosen)",
    "epoch": "",
    "noise_seed": "",
    "first_stage": "data with a first stage: texts, or rows with scores",
    "reference": 'the ranker as it was before training, or `reference = "a.run"` under `[loss]`',
}
"""What each required input of a loss needs of the data; nothing where the loop has it for any data."""

LEARNS_FROM = {
    "losses.supervised": "relevance labels, graded or binary: BEIR, LETOR, training rows",
    "losses.preference": "preferences: `chosen` and `rejected`, or ranked answers",
    "losses.rl": "relevance labels, graded or binary, as rewards of the orders that it draws",
}


@lru_cache(maxsize=1)
def pages() -> dict[str, str]:
    """Return every generated page, by its path in the site's sources."""
    found = {
        "reference/commands.md": commands(),
        "reference/recipe.md": recipe(),
        "reference/losses.md": losses(),
        "reference/methods/index.md": methods_index(),
    }
    found |= {f"reference/methods/{area}.md": methods_of(area) for area in _areas()}
    found |= {f"reference/contracts/{family}.md": contract(family) for family in _families()}
    pages = [path for kind in ("*.md", "*.svg") for path in sorted((ROOT / "benchmarks").glob(kind))]
    found |= {f"benchmarks/{path.name}": path.read_text() for path in pages}
    return found


# -- hooks of mkdocs ------------------------------------------------------------------------------------------------


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        if files.get_file_from_path(path) is None:
            files.append(File.generated(config, path, content=text))
    return files


def on_config(config: Any) -> Any:
    """Fill the navigation: areas and families by name, pages of docs/ that it does not name under *How to*."""
    written = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")} | set(pages())
    listed = {
        "METHODS": [f"reference/methods/{area}.md" for area in _areas()],
        "CONTRACTS": [f"reference/contracts/{family}.md" for family in _families()],
        "BENCHMARKS": [f"benchmarks/{path.name}" for path in sorted((ROOT / "benchmarks").glob("*.md"))],
    }

    def kept(entries: list[Any]) -> Iterator[Any]:
        for entry in entries:
            if isinstance(entry, str) and entry in listed:
                yield from listed[entry]
            elif isinstance(entry, dict) and isinstance(next(iter(entry.values())), list):
                yield {name: list(kept(inner)) for name, inner in entry.items()}
            elif (entry if isinstance(entry, str) else next(iter(entry.values()))) in written:
                yield entry

    named = set(_leaves(config["nav"]))
    more = sorted(path for path in written - named - set(pages()) if "/" not in path)
    next(entry for entry in config["nav"] if "How to" in entry)["How to"][-1:-1] = more
    config["nav"] = list(kept(config["nav"]))
    return config


def _leaves(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        value = entry if isinstance(entry, str) else next(iter(entry.values()))
        yield from [value] if isinstance(value, str) else _leaves(value)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Let links into the sources lead to the reference; folders of the repository are named, not linked."""
    up = "../" * page.file.src_path.count("/")
    known = {method.location.partition(":")[0]: method for method in _methods()}

    def source(match: re.Match[str]) -> str:
        text, path = match.groups()
        module = path.removesuffix(".py").replace("/", ".").removeprefix("src.")
        method = next((m for m in _methods() if m.id == text), known.get(module))
        return text if method is None else f"[{text}]({up}reference/methods/{method.area}.md#{_anchor(method.id)})"

    markdown = re.sub(r"\[([^\]]+)\]\(\.\./(src/lorank/[^)]+)\)", source, markdown)
    return re.sub(r"\[([^\]]+)\]\(\.\./((?:examples|deploy)[^)]*)\)", r"\1 (`\2` in the repository)", markdown)


# -- commands and recipes -------------------------------------------------------------------------------------------


def commands() -> str:
    """Return the help of every command: what it does, its examples, its options."""
    parts = ["# Commands\n", "Exit codes: 0 done, 1 failed, 2 wrong use. Progress goes to stderr, results to stdout.\n"]
    for name, callback in _commands():
        parts.append(f"## {name}\n\n{_examples(inspect.cleandoc(callback.__doc__ or ''))}\n")
        rows = [_option(parameter) for parameter in inspect.signature(callback).parameters.values()]
        parts.append(_table(("option", "takes", "default", ""), rows))
    return "\n".join(parts)


def _commands() -> Iterator[tuple[str, Callable[..., Any]]]:
    from lorank.cli.app import app

    groups = [("lorank", app), *((f"lorank {group.name}", group.typer_instance) for group in app.registered_groups)]
    for prefix, group in groups:
        for command in group.registered_commands:
            yield f"{prefix} {command.name or command.callback.__name__}", command.callback


def _option(parameter: inspect.Parameter) -> tuple[str, ...]:
    kind, info = get_args(parameter.annotation)[:2]
    plain = parameter.name.replace("_", "-")
    names = [each for each in (info.default, *(info.param_decls or ())) if str(each).startswith("-")]
    names = names or ([plain.upper()] if type(info).__name__ == "ArgumentInfo" else [f"--{plain}"])
    words = [each for each in get_args(kind) if each is not type(None)] if get_origin(kind) is not list else [kind]
    (kind,) = words or [kind]
    kind = get_args(kind)[0] if get_origin(kind) is list else kind
    default = parameter.default
    shown = "" if default in (None, "", False) else f"`{default}`"
    return (
        ", ".join(f"`{each}`" for each in names),
        _takes(kind),
        "**required**" if default is parameter.empty else shown,
        info.help or "",
    )


def _takes(kind: Any) -> str:
    """Return in a word what an option takes: the choices, where its type names them."""
    words = {str: "text", Path: "path", int: "integer", float: "number", bool: "flag"}
    if kind in words:
        return words[kind]
    choices = [each.value for each in kind] if isinstance(kind, type) and issubclass(kind, Enum) else get_args(kind)
    return ", ".join(map(str, choices))


def _examples(text: str) -> str:
    """Return help text with the indented commands under *Examples* as code."""
    return re.sub(r"^(    )?(lorank .*)$", r"    \2", text, flags=re.MULTILINE)


def recipe() -> str:
    """Return the reference of recipe files: each section, key, type and default."""
    from lorank.training.checks import flag_of
    from lorank.training.recipe import ALIASES, RecipeFile

    empty, flags = RecipeFile(), _train_flags()
    old_names = {new: [old] for old, new in ALIASES.items()}
    top = [
        field for field in dataclasses.fields(RecipeFile) if not dataclasses.is_dataclass(getattr(empty, field.name))
    ]
    parts = [
        "# Recipes\n",
        "A recipe is a training run as TOML: `lorank train recipe.toml`. Options of the command override it. An "
        "unknown "
        "section or key is an error that names the nearest one.\n",
        '```toml\ndata = "pydocs"\nbase = "minilm"\nout = "runs/first"\n\n[adapter]\nname = "lora"\nrank = 16\n\n'
        "[training]\nlr = 5e-4\nsteps = 200\n```\n",
        "## Keys at the top\n",
        _table(("key", "type", "default"), [_setting(field, empty) for field in top]),
    ]
    for field in dataclasses.fields(RecipeFile):
        part = getattr(empty, field.name)
        if dataclasses.is_dataclass(part):
            rows = []
            for each in dataclasses.fields(part):
                flag = flag_of(f"{field.name}.{each.name}")
                rows.append((*_setting(each, part), f"`{flag}`" if flag in flags and each.name != "options" else ""))
            also = "".join(f"`[{old}]` is its name in 0.1 and still read.\n\n" for old in old_names.get(field.name, ()))
            parts.append(f"## [{field.name}]\n\n{also}\n{_prose(type(part))}\n")
            parts.append(_table(("key", "type", "default", "option"), rows))
    return "\n".join(parts)


def _train_flags() -> set[str]:
    train = next(callback for name, callback in _commands() if name == "lorank train")
    return {
        flag
        for each in inspect.signature(train).parameters.values()
        for flag in re.findall(r"--[\w-]+", _option(each)[0])
    }


def _setting(field: Any, owner: Any) -> tuple[str, str, str]:
    kind = field.type if isinstance(field.type, str) else inspect.formatannotation(field.type)
    return (
        f"`{field.name}`",
        f"`{kind.replace('typing.', '')}`",
        f"`{getattr(owner, field.name)!r}`",
    )


# -- methods --------------------------------------------------------------------------------------------------------


def methods_index() -> str:
    """Return the list of areas, with how many methods each has."""
    rows = [(f"[{_title(area)}]({area}.md)", f"`{area}`", str(len(ids))) for area, ids in _areas().items()]
    return (
        "# Methods\n\nEvery catalogued method, by area. `lorank methods` prints the list, `lorank methods --reach` how "
        "each is reached, and `lorank.methods()` returns it.\n\n"
        + _table(("area", "in the catalogue", "methods"), rows)
    )


def methods_of(area: str) -> str:
    """Return the page of an area: each method with its equation, options, paper, and the ways to it."""
    from lorank.reach import reach

    parts = [f"# {_title(area)}\n"]
    for method in _areas()[area]:
        module, _, name = method.location.partition(":")
        about, signature, doc = _source(module, name)
        way = reach(method)
        rows = [("Python", f"`{way.python}`"), ("recipe", f"`{way.recipe}`"), ("command", f"`lorank {way.command}`")]
        ways = [row for row, value in zip(rows, (way.python, way.recipe, way.command)) if value]
        parts += [
            f"## {method.id} {{ #{_anchor(method.id)} }}\n",
            f"*{method.title}*\n",
            f"{_as_markdown(about)}\n",
            f"```python\n{signature}\n```\n\n{_as_markdown(doc)}\n" if signature else "",
            _table(("reached by", ""), [*ways, *([("", way.why_not)] if way.why_not else [])]),
        ]
    return "\n".join(parts)


def _source(module: str, name: str) -> tuple[str, str, str]:
    """Return the module's docstring, the object's signature and its docstring, read from the source."""
    path = ROOT / "src" / (module.replace(".", "/") + ".py")
    text = (path if path.exists() else path.with_suffix("") / "__init__.py").read_text()
    tree = ast.parse(text)
    kinds = (ast.FunctionDef, ast.ClassDef)
    node = next((n for n in tree.body if isinstance(n, kinds) and n.name == name.partition(".")[0]), None)
    about = ast.get_docstring(tree) or ""
    if node is None:
        return about, "", ""
    body = [ast.Expr(ast.Constant(...))]
    if isinstance(node, ast.FunctionDef):
        head = ast.FunctionDef(node.name, node.args, body, [], node.returns, type_params=[])
        signature = ast.unparse(ast.fix_missing_locations(head)).rstrip(". \n").rstrip(":")
    else:
        made = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        fields = [
            ast.unparse(n) for n in node.body if isinstance(n, ast.AnnAssign) and "ClassVar" not in ast.unparse(n)
        ]
        arguments = (
            ", ".join(fields) if made is None else ast.unparse(made.args).removeprefix("self, ").removeprefix("self")
        )
        signature = f"class {node.name}({arguments})"
    return about, _wrapped(signature), ast.get_docstring(node) or ""


def _wrapped(signature: str) -> str:
    if len(signature) < 100:
        return signature
    head, _, rest = signature.partition("(")
    inner, _, tail = rest.rpartition(")")
    arguments = re.split(r", (?=[*\w]+(?::|=|$|, |\Z))", inner)
    return head + "(\n    " + ",\n    ".join(arguments) + ",\n)" + tail


# -- losses, contracts ----------------------------------------------------------------------------------------------


def losses() -> str:
    """Return which loss takes which data."""
    from lorank import index
    from lorank.ranking.losses import ALIASES, LOSSES, loss_options, requirements_of

    areas = {m.id: m.area for m in index.methods()}
    rows = []
    for name in sorted(LOSSES):
        area = areas.get(name, "losses.supervised")
        wanted = sorted(requirements_of(LOSSES[name]))
        others = ", ".join(f"`{alias}`" for alias, target in ALIASES.items() if target == name)
        linked = f"[{name}](methods/{area}.md#{_anchor(name)})" if name in areas else f"`{name}`"
        needs = "; ".join(f"`{each}`: {INPUTS[each]}" if INPUTS.get(each) else f"`{each}`" for each in wanted)
        options = ", ".join(f"`{key}={value!r}`" for key, value in loss_options(name).items())
        rows.append((linked, others, LEARNS_FROM.get(area, LEARNS_FROM["losses.supervised"]), needs, options))
    return (
        "# Which loss takes which data\n\nA loss is a function of scores, labels, mask and weights on lists, so that "
        "each runs on every ranker that the loop trains. What some take beside the labels stands in the "
        "fourth column.\n\n" + _table(("loss", "also called", "learns from", "takes also", "options"), rows)
    )


def contract(family: str) -> str:
    """Return the page of one decorator: how it is written, what it registers, and what a member must be."""
    from lorank import plugins

    about = plugins.FAMILIES[family]
    module, _, name = about.enter.partition(":")
    options = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    more = "".join(f", {key}={value.default!r}" for key, value in options.items() if key not in OF_DECORATORS)
    home = importlib.import_module(module)
    if about.base:
        base_module, _, base = about.base.partition(":")
        members = _members(getattr(importlib.import_module(base_module), base))
        home = importlib.import_module(base_module)
        must = f"A class derived from `{base_module}.{base}`.\n\n{members}"
    else:
        must = "A function, or a class that makes one, as the text below and the methods of lorank show."
    example = EXAMPLES.get(family)
    shown = f"## An example\n\n```python\n{(ROOT / example).read_text().strip()}\n```\n" if example else ""
    registries = ", ".join(f"`{each.replace(':', '.')}`" for each in about.registries)
    return (
        f"# @lorank.{family}\n\n```python\n@lorank.{family}(name, *, title='', area='{about.area}'{more})\n```\n\n"
        f"It enters the name in {registries}, and in the catalogue. A name that is taken is refused. How lorank "
        f"finds the file: [methods of your own](../../how-to/plugins.md).\n\n## What it must be\n\n{must}\n\n"
        f"{_as_markdown(inspect.getdoc(home) or '')}\n\n{shown}"
    )


OF_DECORATORS = ("name", "title", "published")
"""What every decorator takes, or says for itself."""

EXAMPLES = {
    "form": "examples/plugin/lorank_example/row_scale.py",
    "loss": "examples/plugin/lorank_example/margin.py",
    "strategy": "examples/plugin/lorank_example/one_pass.py",
    "consensus": "examples/plugin/lorank_example/trimmed_borda.py",
    "rule": "src/lorank/lowrank/rules/lora_plus.py",
    "start": "src/lorank/lowrank/starts/olora.py",
    "budget": "src/lorank/lowrank/budgets/static.py",
    "feature_model": "src/lorank/ranking/scorers/features/mlp.py",
    "click_model": "src/lorank/ranking/clicks/models/pbm.py",
    "propensity": "src/lorank/ranking/clicks/propensities/position_based.py",
    "debiaser": "src/lorank/ranking/clicks/debias/trust.py",
    "estimator": "src/lorank/ranking/clicks/estimators/snips.py",
    "interleaving": "src/lorank/ranking/clicks/interleaving/team_draft.py",
    "calibrator": "src/lorank/ranking/calibration/temperature.py",
}


def _members(base: type) -> str:
    rows = []
    for name, member in inspect.getmembers(base):
        own = any(name in each.__dict__ for each in base.__mro__ if each.__module__.startswith("lorank."))
        if name.startswith("_") or not own or not callable(member):
            continue
        needed = "**yes**" if getattr(member, "__isabstractmethod__", False) else ""
        first = (inspect.getdoc(member) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
        rows.append((f"`{name}`", needed, first.replace("``", "`")))
    return _table(("method", "must be written", ""), rows)


# -- text -----------------------------------------------------------------------------------------------------------


def _methods() -> list[Any]:
    from lorank import index

    return index.methods()


def _areas() -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {area: [] for area in AREAS}
    for method in _methods():
        found.setdefault(method.area, []).append(method)
    return {area: ids for area, ids in found.items() if ids}


def _families() -> list[str]:
    from lorank import plugins

    return list(plugins.FAMILIES)


def _title(area: str) -> str:
    return AREAS.get(area, area)


def _anchor(id: str) -> str:
    return id.lower()


def _prose(owner: type) -> str:
    return _as_markdown(inspect.getdoc(owner) or "")


def _as_markdown(doc: str) -> str:
    """Return a docstring as Markdown: roles and double backticks as code, sections as lists, examples as blocks."""
    doc = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", doc).replace("``", "`")
    doc = fence_examples(re.sub(r"(?m)^={6,}.*$", "", doc))
    lines, out, section, fenced = doc.splitlines(), [], False, False
    for line in lines:
        if line.startswith("```") or fenced:
            fenced = fenced != line.startswith("```")
            section = False
            out.append(line)
        elif re.fullmatch(r"(Args|Returns|Raises|Attributes):", line):
            out += ["", f"**{line[:-1]}**", ""]
            section = True
        elif section and re.match(r"    \w[\w*, .]*:", line):
            key, _, rest = line.strip().partition(":")
            out.append(f"- `{key}`:{rest}")
        elif section and line.startswith("    "):
            out.append(("  " if line.startswith("        ") else "") + line.strip())
        else:
            section = section and not line
            if out and line.startswith("    ") and out[-1] and not out[-1].startswith("    "):
                out.append("")
            out.append(line)
    return "\n".join(out)


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, ["---"] * len(heads), *([str(cell).replace("\n", " ") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
