"""BM25 finds the obvious document in each language and in code, and the language is kept with the statistics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank.data import write_beir
from lorank.data.collection import Collection, Split
from lorank.errors import UsageError
from lorank.ranking.scorers.bm25 import BM25, BM25Statistics, terms_of
from lorank.ranking.scorers.languages import SCRIPTS, STEMMED, cut, cut_code, detect_language, languages

FIXTURES = {
    "chinese": (
        "cjk",
        {
            "beijing": "北京是中华人民共和国的首都，也是全国的政治和文化中心。",
            "panda": "大熊猫主要生活在四川的山区，以竹子为食。",
            "tea": "绿茶是没有发酵的茶叶，产于浙江和安徽。",
            "rail": "高速铁路把上海和广州连接起来，全程不到七个小时。",
        },
        {"大熊猫吃什么": "panda", "中国的首都在哪里": "beijing", "绿茶产于哪里": "tea", "高速铁路": "rail"},
    ),
    "japanese": (
        "cjk",
        {
            "fuji": "富士山は日本で一番高い山で、標高は3776メートルです。",
            "sushi": "寿司は酢飯と魚を組み合わせた日本料理です。",
            "learning": "機械学習はデータからパターンを学ぶ方法です。",
            "train": "新幹線は東京と大阪を約二時間半で結びます。",
        },
        {"日本で一番高い山": "fuji", "機械学習とは": "learning", "東京から大阪まで": "train", "魚の料理 寿司": "sushi"},
    ),
    "arabic": (
        "arabic",
        {
            "cairo": "القاهرة هي عاصمة مصر وأكبر مدنها.",
            "nile": "نهر النيل هو أطول أنهار أفريقيا ويصب في البحر المتوسط.",
            "coffee": "تُزرع القهوة في اليمن منذ قرون.",
            "math": "كتب الخوارزمي كتابًا في الجبر والحساب.",
        },
        {"ما هي عاصمة مصر": "cairo", "أطول نهر في أفريقيا": "nile", "زراعة القهوة": "coffee", "كتاب الجبر": "math"},
    ),
    "hindi": (
        "hindi",
        {
            "delhi": "नई दिल्ली भारत की राजधानी है।",
            "ganga": "गंगा नदी हिमालय से निकलती है।",
            "tea": "असम में चाय के बड़े बागान हैं।",
        },
        {"भारत की राजधानी": "delhi", "गंगा नदी": "ganga", "चाय के बागान": "tea"},
    ),
    "russian": (
        "russian",
        {
            "moscow": "Москва является столицей России.",
            "baikal": "Байкал — самое глубокое озеро в мире.",
            "bread": "Чёрный хлеб пекут из ржаной муки.",
        },
        {"столица России": "moscow", "самое глубокое озеро": "baikal", "хлеб из муки": "bread"},
    ),
    "code": (
        "code",
        {
            "cpp": "In C++ a std::vector grows by push_back; use reserve() first.",
            "csharp": "In C# use List<T>.Add to append an item.",
            "r": "In R, append items with c(x, y) or append().",
            "c": "In C you call realloc to grow an array.",
            "http": "def parseHTTPResponse(raw): return raw.split('\\r\\n')",
            "net": "ASP.NET Core runs on .NET 8.",
        },
        {
            "a vector in C++": "cpp",
            "append an item in C#": "csharp",
            "append items in R": "r",
            "grow an array in C": "c",
            "parse http response": "http",
            "parseHTTPResponse": "http",
            ".NET": "net",
        },
    ),
}


@pytest.mark.parametrize("name", sorted(FIXTURES))
def test_bm25_finds_the_obvious_document(name):
    language, documents, asked = FIXTURES[name]
    index = BM25.index(list(documents), list(documents.values()), language=language)
    for query, right in asked.items():
        run = index.search({"q": query}, 3)["q"]
        assert next(iter(run), None) == right, (query, run)


@pytest.mark.parametrize("name", sorted(set(FIXTURES) - {"code"}))
def test_the_script_says_which_language_it_is(name):
    language, documents, _ = FIXTURES[name]
    assert detect_language(documents.values()) == language


def test_latin_is_english_and_an_unknown_script_is_words():
    assert detect_language(["Guten Tag"]) == detect_language([]) == detect_language(["1234"]) == "english"
    assert detect_language(["ქართული ენა"]) is None
    assert set(SCRIPTS.values()) <= set(languages())


def test_languages_of_programs_do_not_vanish():
    assert {"c++", "c#", "r", "c", "f#", ".net"} <= set(cut_code("C++ and C#, R or C, F# and .NET"))
    assert cut_code("getUserName user_name x->y a == b") == [
        "getusername", "get", "user", "name", "user_name", "user", "name", "x", "->", "y", "a", "==", "b",
    ]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([None, *languages()]), st.text(max_size=40))
def test_any_text_is_cut_in_any_language(language, text):
    terms = terms_of([text], language)[0]
    assert all(isinstance(term, str) and term for term in terms)
    assert terms == terms_of([text], language)[0]


def test_every_stemmer_of_the_package_is_a_language():
    for language in STEMMED:
        assert terms_of(["word words"], language)
    with pytest.raises(UsageError, match="did you mean 'arabic'"):
        terms_of(["x"], "arabik")
    with pytest.raises(UsageError, match="unknown language"):
        BM25Statistics.of(["a b c dd"], language="klingon")


def test_pairs_of_characters_mix_with_words():
    assert cut("使用BM25排序", "cjk") == ["使用", "bm25", "排序"]
    assert cut("ＢＭ２５ 山", "cjk") == ["bm25", "山"]


def test_the_language_is_kept_in_the_folder(tmp_path):
    language, documents, asked = FIXTURES["chinese"]
    BM25Statistics.of(list(documents.values()), language=language).save(tmp_path)
    again = BM25Statistics.load(tmp_path)
    assert again.language == "cjk"
    scores = again.score_pairs(
        list(asked)[:1], list(documents.values()), np.array([[0, i] for i in range(len(documents))])
    )
    assert int(scores.argmax()) == 1


def collection(name):
    language, documents, asked = FIXTURES[name]
    queries = {f"q{i}": text for i, text in enumerate(asked)}
    qrels = {f"q{i}": {right: 1} for i, right in enumerate(asked.values())}
    splits = {split: Split(split, queries, qrels) for split in ("train", "dev", "test")}
    return language, Collection(name, list(documents), list(documents.values()), splits)


def test_a_collections_language_is_that_of_its_script_or_the_one_that_is_given(tmp_path, monkeypatch):
    import lorank
    from lorank.training.lists.retrieval import bm25_index

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    language, data = collection("chinese")
    write_beir(data, tmp_path / "zh")
    loaded = lorank.load(tmp_path / "zh")
    assert loaded.search_language == language
    assert bm25_index(loaded).statistics.language == language
    assert lorank.load(tmp_path / "zh", language="code").search_language == "code"
    assert lorank.load("pydocs-names").search_language == "english"
    with pytest.raises(UsageError, match="did you mean 'german'"):
        lorank.load(tmp_path / "zh", language="germna")


@pytest.mark.parametrize("name", ["japanese", "code"])
def test_commands_take_the_language(name, tmp_path, monkeypatch):
    import json

    from typer.testing import CliRunner

    from lorank.cli.app import app

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    language, data = collection(name)
    write_beir(data, tmp_path / "data")
    for options in ([], ["--ranker", "bm25"]):
        done = CliRunner().invoke(
            app,
            ["evaluate", "--data", str(tmp_path / "data"), "--language", language, "--ranker", "bm25", "--json",
             "--measures", "RR@10"],
        )  # fmt: skip
        assert done.exit_code == 0, (options, done.output)
        assert json.loads(done.stdout)["systems"]["bm25"]["mean"]["RR@10"] == pytest.approx(1.0)
    done = CliRunner().invoke(
        app, ["retrieve", "--data", str(tmp_path / "data"), "--language", "klingn", "--out", str(tmp_path / "a.run")]
    )
    assert isinstance(done.exception, UsageError)
    assert "klingn" in str(done.exception)
