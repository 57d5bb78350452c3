"""How a language's texts are cut into terms: words and stems, pairs of characters, or the parts of code.

A *language* is the name of a Snowball stemmer (PyStemmer: english, german, arabic, hindi, ...), with stop words where
bm25s has them; ``cjk`` for scripts that put no spaces between words (Chinese, Japanese, Korean, Thai, Lao, Khmer,
Burmese), cut into pairs of neighbouring characters; ``code`` for programs and questions about them; None for words as
they are; ``auto`` for what the script of the texts says.

    cjk    機械学習     -> 機械 械学 学習          a single character between others stays alone
    code   parseHTTPFile, C++, x != y -> parsehttpfile parse http file, c++, x != y
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import Stemmer
from bm25s import stopwords

from lorank.errors import unknown_name

STOP_WORDS: dict[str, Sequence[str]] = {
    "danish": stopwords.STOPWORDS_DANISH,
    "dutch": stopwords.STOPWORDS_DUTCH,
    "english": stopwords.STOPWORDS_EN,
    "french": stopwords.STOPWORDS_FRENCH,
    "german": stopwords.STOPWORDS_GERMAN,
    "italian": stopwords.STOPWORDS_ITALIAN,
    "norwegian": stopwords.STOPWORDS_NORWEGIAN,
    "portuguese": stopwords.STOPWORDS_PORTUGUESE,
    "russian": stopwords.STOPWORDS_RUSSIAN,
    "spanish": stopwords.STOPWORDS_SPANISH,
    "swedish": stopwords.STOPWORDS_SWEDISH,
    "turkish": stopwords.STOPWORDS_TURKISH,
}
"""Stop words by language; other languages with a stemmer have none."""

AUTO = "auto"
STEMMED = frozenset(Stemmer.algorithms())
SCRIPTS = {
    "LATIN": "english",
    "CJK": "cjk",
    "HIRAGANA": "cjk",
    "KATAKANA": "cjk",
    "HANGUL": "cjk",
    "THAI": "cjk",
    "LAO": "cjk",
    "KHMER": "cjk",
    "MYANMAR": "cjk",
    "ARABIC": "arabic",
    "CYRILLIC": "russian",
    "GREEK": "greek",
    "DEVANAGARI": "hindi",
    "TAMIL": "tamil",
    "ARMENIAN": "armenian",
}
"""The language that a script stands for, by the first word of its letters' Unicode names; others stay words."""

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # iteration marks, kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af\uff66-\uff9f\U00020000-\U0003134f"
)
MARKED = "\u0900-\u0963\u0966-\u097f\u0b80-\u0bff"
"""Letters and vowel signs of Devanagari and Tamil, whose signs are no letters to a regular expression."""

_WORD = re.compile(r"\b\w\w+\b")
_MARKED_WORD = re.compile(rf"[\w{MARKED}]{{2,}}")
_UNSPACED = re.compile(rf"[{UNSPACED}]+|[^\W{UNSPACED}]{{2,}}")
_CODE = re.compile(
    r"[^\W\d]\w*(?:\+\+|#)(?!\w)"  # C++, C#, F#
    r"|\.[A-Z]{2,}\b"  # .NET
    r"|\w+"
    r"|(?<![^\s\w()\[\]{};,.])(?:->|=>|==|!=|<=|>=|::|&&|\|\||\*\*|<<|>>|\+=|-=|:=|\.\.\.)"
)
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")


def languages() -> list[str]:
    """Return the names of all languages, besides auto.

    >>> {"english", "arabic", "cjk", "code"} <= set(languages())
    True
    """
    return sorted({*STEMMED, *STOP_WORDS, *CUTTERS})


def check_language(language: str | None) -> None:
    """Raise UsageError for a language that there is not; ``auto`` is none yet, see `detect_language`."""
    if language is not None and language not in STEMMED and language not in CUTTERS:
        raise unknown_name("language", language, languages())


def cut(text: str, language: str | None) -> list[str]:
    """Return the words of a text before stemming, stop words included, in order.

    >>> cut("機械学習とBM25", "cjk"), cut("parseHTTPFile in C++", "code")
    (['機械', '械学', '学習', '習と', 'bm25'], ['parsehttpfile', 'parse', 'http', 'file', 'in', 'c++'])
    """
    if language in CUTTERS:
        return CUTTERS[language](text)
    lower = text.lower()
    if language == "arabic" or language == "persian":
        lower = "".join(c for c in unicodedata.normalize("NFKC", lower) if not unicodedata.combining(c))
    if language in ("hindi", "nepali", "tamil"):
        return _MARKED_WORD.findall(lower)
    return _WORD.findall(lower)


def cut_unspaced(text: str) -> list[str]:
    """Return pairs of neighbouring characters of runs without spaces, and words of two letters or more of others."""
    terms = []
    for run in _UNSPACED.findall(unicodedata.normalize("NFKC", text).lower()):
        if not re.match(f"[{UNSPACED}]", run) or len(run) == 1:
            terms.append(run)
        else:
            terms += [run[i : i + 2] for i in range(len(run) - 1)]
    return terms


def cut_code(text: str) -> list[str]:
    """Return identifiers whole and in their parts by case and underscores, numbers, C++ and the like, operators."""
    terms = []
    for token in _CODE.findall(text):
        terms.append(token.lower())
        parts = [part.lower() for part in _PART.findall(token)] if token.isidentifier() else []
        if len(parts) > 1:
            terms += parts
    return terms


CUTTERS: dict[str, Callable[[str], list[str]]] = {"cjk": cut_unspaced, "code": cut_code}
"""Languages whose texts are cut by a function, without stems and stop words."""


def detect_language(texts: Iterable[str], most: int = 200, letters: int = 400) -> str | None:
    """Return the language that the script of most letters stands for: a script, not a language, is what is seen.

    Japanese and Chinese are ``cjk`` also where Latin words make up to half of the letters.

    Args:
        texts: The texts of a collection, of which the first are looked at.
        most: How many texts are looked at.
        letters: How many characters of each.

    Returns:
        A language; english for no letters at all, None for a script that stands for none.

    >>> detect_language(["sorting a list"]), detect_language(["列表排序"]), detect_language(["Сортировка"])
    ('english', 'cjk', 'russian')
    """
    counts: Counter[str] = Counter()
    for text, _ in zip(texts, range(most), strict=False):
        counts.update(_script(letter) for letter in text[:letters] if letter.isalpha())
    if not counts:
        return "english"
    unspaced = sum(count for script, count in counts.items() if SCRIPTS.get(script) == "cjk")
    if 2 * unspaced >= sum(counts.values()) / 2:  # a character without spaces says as much as several letters
        return "cjk"
    return SCRIPTS.get(counts.most_common(1)[0][0])


def _script(letter: str) -> str:
    return "LATIN" if letter.isascii() else unicodedata.name(letter, "").partition(" ")[0]
