"""What is written stands whole or not at all: after errors, a full disk, kill -9 at any step; beside a reader."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import file_writers
from file_writers import WRITERS, filled, index, model, number_in
from lorank import files, lowrank
from lorank.errors import DataError, LorankError, WriteError
from lorank.files import replaced_file, replaced_folder, write_json, write_text
from lorank.lowrank.bottleneck import load_bottlenecks
from lorank.manifest import add_manifest, check_manifest, read_bytes, read_unchanged
from lorank.ranking.scorers import BM25

OLD_OR_NEW = {"5", "7"}


@pytest.fixture
def memory_folder():
    """A folder in memory where the system has one: thousands of fsyncs cost nothing there."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield Path(folder)


def stop_writers(what, folder, *names):
    """Return what readers found, by writer, after its writers were stopped as ``what`` says."""
    script = [sys.executable, "-W", "ignore", file_writers.__file__, what, str(folder), *names]
    done = subprocess.run(script, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "names", [["text", "adapter"], pytest.param(sorted({*WRITERS} - {"text", "adapter"}), marks=pytest.mark.slow)]
)
def test_killed_at_every_step_the_old_or_the_new_stands_and_the_next_writer_cleans_up(names, memory_folder):
    found = stop_writers("kill", memory_folder, *names)
    assert found.keys() == set(names)
    for name, seen in found.items():
        assert seen.keys() <= OLD_OR_NEW, (name, seen)
        assert sum(seen.values()) > 10, (name, seen)


@pytest.mark.parametrize("names", [["adapter"], pytest.param(sorted({*WRITERS} - {"adapter"}), marks=pytest.mark.slow)])
def test_a_reader_beside_writers_that_are_killed_sees_the_old_or_the_new(names, memory_folder):
    for name, seen in stop_writers("random", memory_folder, *names).items():
        assert seen.keys() <= OLD_OR_NEW, (name, seen)


def test_a_full_disk_is_said_and_leaves_the_old(memory_folder):
    found = stop_writers("full", memory_folder)
    assert found.keys() == WRITERS.keys()
    for name, seen in found.items():
        assert seen.keys() == {"5", "status 3"}, (name, seen)  # 3: a LorankError


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_a_file_system_without_room_is_said_and_leaves_the_old(name, tmp_path):
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path]).returncode:
        pytest.skip("no small file system can be mounted here")
    try:
        writer = WRITERS[name]
        writer.write(tmp_path / "a", 5)
        free = os.statvfs(tmp_path)
        (tmp_path / "ballast").write_bytes(bytes(free.f_bavail * free.f_frsize))
        with pytest.raises(WriteError, match=r"cannot be written.*make room"):
            writer.write(tmp_path / "a", 7)
        assert writer.read(tmp_path / "a") == 5
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "ballast"]
        (tmp_path / "ballast").unlink()
        writer.write(tmp_path / "b", 7)
        assert writer.read(tmp_path / "b") == 7
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_an_error_in_the_block_leaves_the_old_and_nothing_beside_it(tmp_path):
    write_text(tmp_path / "file", "old")
    for text in ("first", "second"):
        with replaced_folder(tmp_path / "folder") as stage:
            (stage / "weights").write_text(text)
    for place in (replaced_file(tmp_path / "file"), replaced_folder(tmp_path / "folder")):
        with pytest.raises(ZeroDivisionError), place as stage:
            (stage / "weights" if stage.is_dir() else stage).write_text(f"new {1 / 0}")
    assert (tmp_path / "file").read_text() == "old"
    assert (tmp_path / "folder/weights").read_text() == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def without_exchange(monkeypatch):
    monkeypatch.setattr(files, "exchange", lambda one, other: False)


def test_without_a_swap_the_older_folder_comes_back(tmp_path, monkeypatch):
    without_exchange(monkeypatch)
    target = tmp_path / "a"
    with replaced_folder(target) as stage:
        (stage / "old").touch()
    rename = Path.rename

    def full(path, to):
        if path.suffix == ".tmp":
            raise OSError(28, "No space left on device", str(to))
        return rename(path, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        with pytest.raises(WriteError, match="No space"), replaced_folder(target) as stage:
            (stage / "new").touch()
    assert [path.name for path in target.iterdir()] == ["old"]
    target.rename(tmp_path / ".a.01234567.old")  # its writer died between the two steps
    with pytest.raises(ZeroDivisionError), replaced_folder(target):
        raise ZeroDivisionError
    assert [path.name for path in target.iterdir()] == ["old"]
    with replaced_folder(target) as stage:
        (stage / "new").touch()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [target]


def test_other_files_stay_and_those_of_the_older_save_go(tmp_path):
    target = tmp_path / "a"
    (target / "notes").mkdir(parents=True)
    (target / "notes/mine.txt").write_text("mine")
    (target / "head.safetensors").touch()
    for name in ("one", "two"):
        with replaced_folder(target, keep_others=True, own=("head.safetensors",)) as stage:
            (stage / name).touch()
            (stage / "lorank.json").write_text("{}")
            add_manifest(stage)
    assert sorted(path.name for path in target.iterdir()) == ["lorank.json", "notes", "two"]
    assert (target / "notes/mine.txt").read_text() == "mine"
    assert (target / "notes/mine.txt").stat().st_nlink == 1


@pytest.mark.parametrize("keep_others", [True, False])
def test_the_working_directory_stays_the_same_folder(tmp_path, monkeypatch, keep_others):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/README.md").write_text("mine")
    monkeypatch.chdir(tmp_path / "a")
    with replaced_folder(".", keep_others=keep_others) as stage:
        (stage / "new").touch()
    assert sorted(path.name for path in Path.cwd().iterdir()) == (["README.md", "new"] if keep_others else ["new"])
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_links_are_followed_and_permissions_stay(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "file").symlink_to("real")
    write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").is_symlink()
    assert ((tmp_path / "real").read_text(), (tmp_path / "real").stat().st_mode & 0o777) == ("new", 0o640)
    (tmp_path / "folder").mkdir(mode=0o750)
    (tmp_path / "link").symlink_to("folder")
    with replaced_folder(tmp_path / "link") as stage:
        (stage / "x").touch()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["x"]


def test_pipes_are_written_to_and_wrong_kinds_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE, text=True)
    write_json(tmp_path / "pipe", [1])
    assert json.loads(reader.communicate(timeout=60)[0]) == [1]
    with pytest.raises(LorankError, match="is a folder"):
        write_text(tmp_path, "x")
    with pytest.raises(LorankError, match="is a file"), replaced_folder(Path(__file__)):
        pass
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "nan", float("nan"))


def test_a_long_name_is_no_trouble(tmp_path):
    write_text(tmp_path / ("n" * 250), "x")
    with replaced_folder(tmp_path / ("f" * 255)):
        pass
    assert len(list(tmp_path.iterdir())) == 2


def test_a_writer_that_lives_is_not_swept_away(tmp_path):
    with replaced_folder(tmp_path / "a") as first:
        (first / "x").write_text("first")
        with replaced_folder(tmp_path / "a") as second:
            (second / "x").write_text("second")
        assert (tmp_path / "a/x").read_text() == "second"
    assert (tmp_path / "a/x").read_text() == "first"
    assert len(list(tmp_path.iterdir())) == 1


def harm_one(path):
    """Change one byte near the end of a file, its size and time staying."""
    stamp, data = path.stat(), bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


FOLDERS = ["adapter", "export", "ranker", "tuned ranker", "index", "bottlenecks"]


@pytest.mark.parametrize("name", FOLDERS)
def test_every_file_of_a_folder_is_checked_by_a_load(name, tmp_path):
    """A flipped bit, a missing file and one of another save are refused; a folder of 0.1, without a manifest, loads."""
    writer = WRITERS[name]
    writer.write(tmp_path / "five", 5)
    writer.write(tmp_path / "seven", 7)
    saved = [path.relative_to(tmp_path / "five") for path in (tmp_path / "five").rglob("*") if path.is_file()]
    described = {path for path in saved if path.suffix == ".json" and "files" in read(tmp_path / "five" / path)}
    checked = [path for path in saved if path not in described or len(path.parts) > 1]
    assert described
    assert checked
    for path in checked:
        for harm in (harm_one, Path.unlink, lambda place, path=path: shutil.copy(tmp_path / "seven" / path, place)):
            shutil.rmtree(tmp_path / "a", ignore_errors=True)
            shutil.copytree(tmp_path / "five", tmp_path / "a")
            harm(tmp_path / "a" / path)
            if (tmp_path / "a" / path).exists() and same(tmp_path, path):
                continue
            with pytest.raises(DataError, match="saved|missing|not whole"):
                writer.read(tmp_path / "a")
    for path in described:
        about = read(tmp_path / "five" / path)
        del about["files"]
        (tmp_path / "five" / path).write_text(json.dumps(about))
        if len(path.parts) > 1:  # as 0.1 wrote it: without a manifest anywhere
            continue
    assert writer.read(tmp_path / "five") == 5 or name == "tuned ranker"


def read(path):
    return json.loads(path.read_text())


def same(folder, path):
    return (folder / "a" / path).read_bytes() == (folder / "five" / path).read_bytes()


def test_manifests_of_strangers_lead_nowhere(tmp_path):
    (tmp_path / "secret").touch()
    for manifest in ({"../secret": {}}, {"/etc/passwd": {}}, [], "x", {"a": 1}, {"secret": {"bytes": "0"}}):
        with pytest.raises(DataError):
            check_manifest(tmp_path, manifest, tmp_path / "lorank.json")
    check_manifest(tmp_path, None, tmp_path / "lorank.json")


def test_a_file_cut_off_while_it_is_read_is_an_error_and_no_bus_error(tmp_path):
    filled(5).save(tmp_path / "a")
    path = tmp_path / "a/adapter_model.safetensors"
    data = path.read_bytes()
    writer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\ndata = open(sys.argv[1], 'rb').read()\nwhile True:\n"
            "    with open(sys.argv[1], 'wb') as f:\n        f.write(data[:99]); f.flush(); f.write(data[99:])",
            str(path),
        ]
    )
    try:
        numbers = set()
        for _ in range(200):
            try:
                numbers.add(number_in(lowrank.load(model(), tmp_path / "a")))
            except DataError:
                numbers.add(None)
    finally:
        writer.kill()
        writer.wait()
    assert numbers <= {5, None}
    path.write_bytes(data)
    assert number_in(lowrank.load(model(), tmp_path / "a")) == 5


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises((DataError, IsADirectoryError)):
            read_bytes(path)
    (tmp_path / "large").write_bytes(bytes(100))
    with pytest.raises(DataError, match="more than the 99"):
        read_bytes(tmp_path / "large", most=99)


def test_a_reader_reads_again_what_was_replaced_meanwhile(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").write_text("old")

    def read(folder):
        if (folder / "x").read_text() == "old":
            with replaced_folder(folder) as stage:
                (stage / "x").write_text("new")
            raise DataError(folder, None, "half of it is gone")
        return (folder / "x").read_text()

    assert read_unchanged(tmp_path / "a", read) == "new"
    with pytest.raises(ZeroDivisionError):
        read_unchanged(tmp_path / "a", lambda folder: 1 / 0)


def test_an_index_and_bottlenecks_say_what_is_wrong(tmp_path):
    index(5).save(tmp_path / "index")
    (tmp_path / "index/bm25_statistics.json").unlink()
    with pytest.raises(DataError, match="missing"):
        BM25.load(tmp_path / "index")
    with pytest.raises(DataError, match="no bottlenecks"):
        load_bottlenecks(model(), tmp_path)
