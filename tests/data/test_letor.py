"""LETOR folders as collections."""

import numpy as np
import pytest

from lorank.data import load
from lorank.data.beir import write_beir
from lorank.data.letor import read_folds, read_letor, write_letor
from lorank.errors import DataError, UsageError


def fold(folder, shift=0):
    folder.mkdir(parents=True)
    for i, name in enumerate(("train", "vali", "test")):
        query = i + shift
        (folder / f"{name}.txt").write_text(f"1 qid:{query} 1:0.5 #docid = A\n0 qid:{query} {i + 1}:0.25\n")


def test_a_folder_gives_its_splits_over_one_matrix(tmp_path):
    fold(tmp_path / "data")
    collection = read_letor(tmp_path / "data")
    assert list(collection.splits) == ["train", "dev", "test"]
    assert collection.documents.dtype == np.float32
    np.testing.assert_array_equal(  # exact: read, not computed
        collection.documents,
        np.array([[0.5, 0, 0], [0.25, 0, 0], [0.5, 0, 0], [0, 0.25, 0], [0.5, 0, 0], [0, 0, 0.25]], np.float32),
    )
    assert collection.dev.qrels == {"1": {"1:1": 1, "1:2": 0}}
    assert collection.dev.candidates == {"1": {"1:1": 0.0, "1:2": 0.0}}
    assert len(collection.position) == 6


def test_folds_are_chosen_or_read_all(tmp_path):
    for i in (1, 2):
        fold(tmp_path / "data" / f"Fold{i}", shift=10 * i)
    assert list(read_letor(tmp_path / "data").train.queries) == ["10"]
    assert list(read_letor(tmp_path / "data", fold=2).train.queries) == ["20"]
    assert [each.name for each in read_folds(tmp_path / "data")] == ["data/Fold1", "data/Fold2"]
    with pytest.raises(DataError, match=r"there is no Fold1 in this folder; name the folds"):
        read_folds(tmp_path)


def test_query_ids_that_two_files_share_are_told_apart(tmp_path):
    (tmp_path / "train.txt").write_text("1 qid:1 1:1\n")
    (tmp_path / "test.txt").write_text("1 qid:1 1:1\n")
    collection = read_letor(tmp_path)
    assert collection.document_ids == ["train-1:1", "test-1:1"]
    assert list(collection.test.queries) == ["test-1"]


def test_a_folder_with_two_files_for_a_split_or_none_says_so(tmp_path):
    with pytest.raises(DataError, match=r"no train, vali or test file in this folder; name the files"):
        read_letor(tmp_path)
    for name in ("train.txt", "train.dat"):
        (tmp_path / name).write_text("1 qid:1 1:1\n")
    with pytest.raises(DataError, match=r"both train.dat and train.txt look like the train split; keep one"):
        read_letor(tmp_path)


@pytest.mark.parametrize("compress", [False, True])
def test_a_collection_comes_back(tmp_path, compress):
    fold(tmp_path / "data")
    collection = read_letor(tmp_path / "data")
    write_letor(collection, tmp_path / "copy", compress=compress)
    again = read_letor(tmp_path / "copy")
    np.testing.assert_array_equal(again.documents, collection.documents)
    assert (again.document_ids, again.splits) == (collection.document_ids, collection.splits)
    with pytest.raises(UsageError, match="holds features; write it with write_letor"):
        write_beir(collection, tmp_path / "beir")


def test_lightgbms_layout(shared_data):
    collection = read_letor(shared_data / "lightgbm-lambdarank")
    assert {name: (len(split), sum(map(len, split.qrels.values()))) for name, split in collection.splits.items()} == {
        "train": (201, 3005),
        "test": (50, 768),
    }
    assert collection.documents.shape == (3773, 300)


def test_the_parts_of_letor_are_one_training_split(tmp_path):
    for part in (2, 1, 3):
        (tmp_path / f"S{part}.txt").write_text(f"1 qid:7 1:{part} #docid = A\n0 qid:7 2:0.25\n")
    (tmp_path / "readme.txt").write_text("what this is\n")
    collection = load(tmp_path)
    assert list(collection.splits) == ["train"]
    assert list(collection.train.queries) == ["S1-7", "S2-7", "S3-7"]
    rows = [collection.documents[collection.position[f"S{part}-7:1"], 0] for part in (1, 2, 3)]
    assert rows == [1, 2, 3]  # exact: read, not computed
    assert collection.train.candidates["S2-7"].keys() == collection.train.qrels["S2-7"].keys()
