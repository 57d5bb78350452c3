"""Key files under many hands, full disks and odd words: nothing is lost, nothing is half written, modes stay."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.errors import DataError, LorankError, UsageError
from lorank.serving.requests.key_file import KeyEdit, edit_keys, line_of, when
from lorank.serving.requests.keys import Caller, Keys, hash_key, open_keys, read_keys
from lorank.serving.requests.refusal import Refusal
from tiny_store import wait_until
from word_engine import WordEngine, live

LORANK = [sys.executable, "-c", "from lorank.cli import main; main()"]


NO_FILES = ("sh", "-c", 'ulimit -f 0; exec "$@"', "sh")
"""Runs a command that cannot write a byte into a file."""


def start(*arguments, through=(), **options):
    """Start the command as a process of its own, ``through`` another."""
    command = [*through, *LORANK, *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)


def run(*arguments):
    """Run the command in this process; return what it printed."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def names(path):
    """The names of the keys that are valid now, by key file."""
    return [row.caller.name for row in KeyEdit(path).rows()]


def test_keys_that_are_made_at_the_same_time_are_all_kept(tmp_path):
    path = tmp_path / "keys.txt"
    made = [start("key", f"t{i}", "--keys", path, stdout=subprocess.PIPE) for i in range(4)]
    drawn = [process.communicate(timeout=120)[0].strip() for process in made]
    assert [process.returncode for process in made] == [0] * 4
    keys = open_keys(path)
    assert [keys.caller(f"Bearer {key}").name for key in drawn] == [f"t{i}" for i in range(4)]


def test_edits_at_the_same_time_lose_nothing_and_readers_see_whole_files(tmp_path):
    path = tmp_path / "keys.txt"
    path.write_text(f"base {hash_key('x')} *\n")
    writers = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys\nfrom lorank.serving.requests.key_file import edit_keys\n"
                "for i in range(20):\n"
                "    with edit_keys(sys.argv[1]) as edit:\n"
                "        edit.add(f'w{sys.argv[2]}-{i} ' + '0' * 62 + f'{i:02d} *')\n",
                str(path),
                str(number),
            ]
        )
        for number in range(3)
    ]
    while any(writer.poll() is None for writer in writers):
        read_keys(path.read_text(), path)
    assert [writer.wait() for writer in writers] == [0] * 3
    assert len(names(path)) == 61
    assert sorted(one.name for one in tmp_path.iterdir()) == [".keys.txt.lock", "keys.txt"]


@pytest.mark.parametrize("mode", [0o640, 0o600, 0o644, 0o660])
@pytest.mark.parametrize(
    "command", [["key", "late"], ["keys", "expire", "acme", "--at", "1d"], ["keys", "rotate", "acme"]]
)
def test_the_mode_of_the_file_and_its_comments_stay(tmp_path, mode, command):
    path = tmp_path / "keys.txt"
    path.write_text(f"# ours\nacme {hash_key('x')} acme  # of the pilot\n# end\n")
    path.chmod(mode)
    run(*command, "--keys", path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_text().startswith("# ours\n")
    assert "# end\n" in path.read_text()


def test_a_link_to_a_key_file_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "keys.txt"
    link.symlink_to(tmp_path / "real" / "keys.txt")
    run("key", "acme", "--keys", link)
    assert link.is_symlink()
    assert names(link) == ["acme"]


@pytest.mark.parametrize("command", [["key", "late"], ["keys", "revoke", "acme"], ["keys", "rotate", "acme"]])
def test_a_full_disk_is_said_in_a_line_and_changes_nothing(tmp_path, command):
    path = tmp_path / "keys.txt"
    path.write_text(before := f"acme {hash_key('x')} acme\n")
    full = start(*command, "--keys", path, through=NO_FILES, stdout=subprocess.PIPE)
    printed, said = full.communicate(timeout=120)
    assert full.returncode == 1
    assert "Traceback" not in said
    assert "as it was" in said
    assert printed == ""  # no key is shown that is not valid
    assert path.read_text() == before
    assert [one.name for one in tmp_path.iterdir() if "lock" not in one.name] == ["keys.txt"]


@pytest.mark.parametrize("command", [["key", "late"], ["keys", "rotate", "acme"]])
def test_a_key_that_cannot_be_shown_is_not_added(tmp_path, command):
    path = tmp_path / "keys.txt"
    path.write_text(before := f"acme {hash_key('x')} acme\n")
    with Path("/dev/full").open("w") as full:
        process = start(*command, "--keys", path, stdout=full)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in said
    assert "No space left" in said
    assert path.read_text() == before


def test_any_command_says_that_its_disk_is_full():
    with Path("/dev/full").open("w") as full:
        process = start("methods", stdout=full)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "No space left on device" in said
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1


def test_places_that_are_no_key_file_are_refused(tmp_path):
    for place in ("/dev/full", tmp_path):
        with pytest.raises(UsageError, match="not a file"), edit_keys(place):
            pass
    with pytest.raises(LorankError, match="cannot be changed"), edit_keys(tmp_path / "none" / "keys.txt"):
        pass
    for adapters in ("a b", "a#b", "a;b", "a\nb"):
        with pytest.raises(UsageError, match="commas"):
            run("key", "acme", "--keys", tmp_path / "k", "--adapters", adapters)
    with pytest.raises(DataError):
        run("key", "a\nb", "--keys", tmp_path / "k", "--adapters", "a")
    assert not (tmp_path / "k").exists()


def test_keys_are_listed_revoked_expired_and_rotated(tmp_path):
    path = tmp_path / "keys.txt"
    first = run("key", "acme", "--keys", path, "--adapters", "en,fr", "--requests-per-minute", "60").split()[-1]
    run("key", "globex", "--keys", path, "--expires", "2027-01-31", "--adapters", "*")
    rows = [json.loads(line) for line in run("keys", "list", "--json", "--keys", path).splitlines()]
    assert [(row["name"], row["adapters"], row["expires"]) for row in rows] == [
        ("acme", "en,fr", None),
        ("globex", "*", "2027-01-31T00:00:00Z"),
    ]
    assert rows[0]["requests_per_minute"] == 60
    second = run("keys", "rotate", "acme", "--grace", "0s", "--keys", path).split()[-1]
    keys = open_keys(path)
    assert keys.caller(f"Bearer {second}") == Caller("acme", frozenset({"en", "fr"}), requests_per_minute=60.0)
    with pytest.raises(Refusal, match="no longer valid"):
        keys.caller(f"Bearer {first}")
    states = [json.loads(line)["state"] for line in run("keys", "list", "--json", "--keys", path).splitlines()]
    assert states == ["expired", "valid", "valid"]
    run("keys", "revoke", rows[0]["id"], "--keys", path)
    assert names(path) == ["globex", "acme"]
    run("keys", "expire", "acme", "--at", "30d", "--keys", path)
    with pytest.raises(UsageError, match=r"globex \("):
        run("keys", "revoke", "nobody", "--keys", path)
    run("keys", "revoke", "acme", "--keys", path)
    run("keys", "revoke", "globex", "--keys", path)
    assert names(path) == []


def test_expiry_follows_the_clock():
    now = [100.0]
    keys = Keys([(hash_key("k"), Caller("acme", None, expires=101.0))], clock=lambda: now[0])
    assert keys.caller("Bearer k").name == "acme"
    now[0] = 101.0
    with pytest.raises(Refusal) as refused:
        keys.caller("Bearer k")
    assert (refused.value.status, refused.value.code) == (401, "expired_key")


@pytest.mark.parametrize(
    "option",
    ["expires=soon", "expires", "requests_per_minute=0", "requests_per_minute=nan", "tokens_per_minute=inf", "x=1", "=",
     "expires=2027-01-01 expires=2027-01-01"],
)  # fmt: skip
def test_odd_options_are_refused_by_line_without_repeating_them(option):
    with pytest.raises(DataError) as refused:
        read_keys(f"acme {hash_key('x')} a {option}", "keys.txt")
    assert "keys.txt:1" in str(refused.value)
    assert "soon" not in str(refused.value)


def test_lines_are_read_as_they_were_written():
    for caller in (Caller("a"), Caller("b", frozenset({"x"}), 1.8e9, 0.5, 123456789.0)):
        assert read_keys(line_of("0" * 64, caller), "k") == [("0" * 64, caller)]
    assert when("90s", now=10.0) == pytest.approx(100.0)
    with pytest.raises(UsageError, match="30d"):
        when("soon")


def test_a_running_server_follows_revocation_and_limits(tmp_path):
    path = tmp_path / "keys.txt"
    limited = run("key", "acme", "--keys", path, "--requests-per-minute", "0.2").split()[-1]
    other = run("key", "globex", "--keys", path).split()[-1]
    with live(WordEngine(), open_keys(path)) as (address, _):

        def models(key):
            return requests.get(f"{address}/v1/models", headers={"Authorization": f"Bearer {key}"}, timeout=120)

        began = time.monotonic()
        assert models(limited).ok
        refused = models(limited)
        spent = time.monotonic() - began
        assert refused.status_code == 429
        assert 60 / 0.2 - spent - 1 <= int(refused.headers["Retry-After"]) <= 60 / 0.2 + 1
        assert refused.json()["error_type"] == "rate_limited"
        assert models(other).ok
        run("keys", "revoke", "globex", "--keys", path)
        assert wait_until(lambda: models(other).status_code == 401)
        os.utime(path)
