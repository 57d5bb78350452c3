"""Keys: what the file holds, what it refuses, how it changes; and the command that draws one."""

import stat
import time

import pytest
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.errors import DataError, LorankError
from lorank.serving.requests.keys import ANYBODY, ENVIRONMENT, KeyFile, NoKeys, hash_key, new_key, open_keys, read_keys
from lorank.serving.requests.refusal import Refusal

ROW = f"acme {hash_key('lr-one')} acme-en,acme-fr\n"


def test_the_file_holds_hashes_only_and_several_keys_may_open_the_same(tmp_path):
    path = tmp_path / "keys.txt"
    path.write_text(f"# tenants\n\n{ROW}acme {hash_key('lr-two')} acme-en  # rotated\nroot {hash_key('lr-root')} *\n")
    keys = open_keys(path)
    assert keys.caller("Bearer lr-one").may("acme-fr")
    assert not keys.caller("bearer  lr-two").may("acme-fr")
    assert keys.caller("Bearer lr-root").may("anything")
    assert keys.caller("Bearer lr-two").may(None)
    for header in (None, "", "Bearer", "Bearer x", f"Bearer {hash_key('lr-one')}", "lr-one", "Bearer \udcff"):
        with pytest.raises(Refusal) as refused:
            keys.caller(header)
        assert refused.value.status == 401


@pytest.mark.parametrize(
    "text",
    [
        "acme lr-one acme",
        f"acme {hash_key('x')}",
        f"a/b {hash_key('x')} a",
        "",
        f"acme {hash_key('x')[:-1]} acme",
        f"acme {hash_key('x').upper()} acme",
    ],
)
def test_a_bad_file_is_refused_by_line_without_repeating_it(text):
    with pytest.raises(DataError) as refused:
        read_keys(text, "keys.txt")
    assert "lr-one" not in str(refused.value)
    assert "keys.txt" in str(refused.value)


def test_a_changed_file_is_read_again_and_a_broken_one_is_not(tmp_path, caplog):
    path = tmp_path / "keys.txt"
    path.write_text(ROW)
    keys = KeyFile(path)

    def known(key):
        keys.looked = time.monotonic() - 2
        try:
            return keys.caller(f"Bearer {key}").name
        except Refusal:
            return None

    assert (known("lr-one"), known("lr-two")) == ("acme", None)
    path.write_text(f"globex {hash_key('lr-two')} globex\n")
    assert (known("lr-one"), known("lr-two")) == (None, "globex")
    path.write_text("half a li")
    assert known("lr-two") == "globex"
    path.unlink()
    assert known("lr-two") == "globex"
    assert "kept as they were" in caplog.text


def test_the_environment_serves_where_no_file_is_given(monkeypatch, tmp_path):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    assert isinstance(open_keys(None), NoKeys)
    assert open_keys(None).caller(None) == ANYBODY
    monkeypatch.setenv(ENVIRONMENT, f"{ROW.strip()}; globex {hash_key('lr-two')} globex")
    assert open_keys(None).caller("Bearer lr-two").name == "globex"
    monkeypatch.setenv(ENVIRONMENT, "")
    with pytest.raises(DataError, match=ENVIRONMENT):  # an empty variable does not open the house
        open_keys(None)
    with pytest.raises(LorankError, match="lorank key"):
        open_keys(tmp_path / "missing.txt")


def test_the_command_prints_a_key_once_and_keeps_its_hash(tmp_path):
    path = tmp_path / "keys.txt"
    drawn = []
    for arguments in (["acme"], ["globex", "--adapters", "globex-en,globex-de"]):
        result = CliRunner().invoke(app, ["key", *arguments, "--keys", str(path)])
        assert result.exit_code == 0, result.output
        drawn.append(result.stdout.split()[-1])
    keys = open_keys(path)
    assert keys.caller(f"Bearer {drawn[0]}").adapters == {"acme"}
    assert keys.caller(f"Bearer {drawn[1]}").adapters == {"globex-en", "globex-de"}
    assert not any(key in path.read_text() for key in drawn)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert CliRunner().invoke(app, ["key", "a b", "--keys", str(path)]).exit_code == 1


def test_keys_are_long_and_differ():
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert min(map(len, keys)) >= 43
