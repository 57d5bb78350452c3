"""Pushing a ranker and opening it by its name: real processes against a small hub on loopback."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
import torch

from lorank import lowrank
from lorank.ranking.scorers import CrossEncoder
from lorank.tuned.mix import Mix
from lorank.tuned.ranker import TunedRanker

LORANK = [sys.executable, "-c", "from lorank.cli import main; main()"]
TEXTS = ["sorting a list", "the moon"]
COMMIT = "c" * 40


class Hub(ThreadingHTTPServer):
    """A hub that keeps what is committed in memory; ``status`` other than 200 is what it answers to writers."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Desk)
        self.files, self.status, self.private, self.token = {}, 200, None, None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Desk(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def send(self, status, body, **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), "X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, hub = unquote(urlparse(self.path).path), self.server
        hub.token = self.headers.get("Authorization")
        if hub.status != 200:
            return self.send(hub.status, {"error": "no"}, X_Error_Message="no")
        if path == "/api/repos/create":
            asked = json.loads(body)
            hub.private = asked.get("private", asked.get("visibility") == "private")
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            return self.send(200, {"url": f"{hub.url}/{name}", "name": name, "id": name})
        if path == "/api/validate-yaml":
            return self.send(200, {"errors": [], "warnings": []})
        if "/preupload/" in path:
            rows = json.loads(body)["files"]
            files = [{"path": row["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None} for row in rows]
            return self.send(200, {"files": files})
        for line in filter(None, body.decode().split("\n")):
            row = json.loads(line)
            if row["key"] == "file":
                hub.files[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
        return self.send(200, {"commitUrl": f"{hub.url}/me/mine/commit/{COMMIT}", "commitOid": COMMIT, "success": True})

    def do_GET(self):
        path, files = unquote(urlparse(self.path).path), self.server.files
        if "/resolve/" in path:
            name = path.split("/resolve/")[1].partition("/")[2]
            if name not in files:
                return self.send(404, {}, X_Error_Code="EntryNotFound")
            return self.send(200, files[name], ETag=f'"{hashlib.sha256(files[name]).hexdigest()}"')
        if "/tree/" in path:
            return self.send(
                200, [{"type": "file", "path": n, "size": len(f), "oid": "0" * 40} for n, f in files.items()]
            )
        siblings = [{"rfilename": name} for name in files]
        return self.send(200, {"id": "me/mine", "modelId": "me/mine", "sha": COMMIT, "siblings": siblings, "tags": []})

    do_HEAD = do_GET


@pytest.fixture
def hub():
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def run_folder(tiny_folders, tmp_path):
    ranker = CrossEncoder(tiny_folders["bert"], max_length=40)
    adapter = lowrank.attach(ranker.module, "lora", rank=2, trained=["classifier"], seed=0)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(0.0, 0.2, generator=torch.Generator().manual_seed(3))
    folder = tmp_path / "runs" / "first" / "model"
    TunedRanker(ranker, adapter, mix=Mix(0.0, 1.0, [(1.0, 0.5)])).save(folder)
    card = f'---\nbase_model: "{tiny_folders["bert"]}"\ntags: []\n---\nlorank rank --ranker {folder} --query q\n'
    (folder / "README.md").write_text(card)
    return folder.parent


@pytest.fixture
def lorank(hub, tmp_path):
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": "hf_mine", "OMP_NUM_THREADS": "1"}
    own |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0"}

    def call(*arguments, **more):
        given = {name: value for name, value in {**os.environ, **own, **more}.items() if value is not None}
        return subprocess.run(
            [*LORANK, *map(str, arguments)], capture_output=True, text=True, env=given, cwd=tmp_path, check=False
        )

    return call


@pytest.mark.slow
def test_a_ranker_goes_up_with_its_card_and_comes_back_by_its_name(lorank, hub, run_folder, tmp_path):
    done = lorank("push", run_folder, "me/mine", "--private")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{hub.url}/me/mine"
    assert "is a folder of this machine" in done.stderr
    assert hub.private
    assert hub.token == "Bearer hf_mine"
    sent = {
        path.relative_to(run_folder / "model").as_posix()
        for path in (run_folder / "model").rglob("*")
        if path.is_file()
    }
    assert set(hub.files) == sent
    card = hub.files["README.md"].decode()
    assert "--ranker me/mine" in card
    assert "base_model" not in card
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    ranked = lorank("rank", "--ranker", "me/mine", "--query", "q", "--documents", "texts.txt")
    assert ranked.returncode == 0, ranked.stderr
    found = {row["index"]: row["score"] for row in map(json.loads, ranked.stdout.splitlines())}
    expected = TunedRanker.load(run_folder).score("q", TEXTS)
    np.testing.assert_allclose([found[0], found[1]], expected, rtol=0.02, atol=0.05)


@pytest.mark.parametrize(
    ("name", "status", "more", "code", "says"),
    [
        ("me/mine", 200, {"HF_TOKEN": None}, 2, "no token for the Hub; set HF_TOKEN"),
        ("me/mine", 401, {}, 1, "it does not know the token"),
        ("me/mine", 403, {}, 1, "the token may not write there"),
        ("me/mine", 200, {"HF_HUB_OFFLINE": "1"}, 1, "HF_HUB_OFFLINE is set"),
        ("me/mine", 200, {"HF_ENDPOINT": "http://127.0.0.1:9"}, 1, "the Hub cannot be reached"),
        ("me//mine", 200, {}, 2, "is no name on the Hub"),
    ],
)
def test_a_refusal_is_told_in_words(lorank, hub, run_folder, name, status, more, code, says):
    hub.status = status
    done = lorank("push", run_folder, name, **more)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not hub.files


def test_only_a_trained_ranker_is_pushed(lorank, tmp_path):
    done = lorank("push", "minilm", "me/mine")
    assert done.returncode == 2
    assert "give the --out folder of `lorank train`" in done.stderr
