"""Noise of hands and machines: typing errors, the case of letters, and misread scans.

Paper: A. Penha, A. Camara and C. Hauff, Evaluating the Robustness of Retrieval Pipelines with Query Variation
Generators, ECIR 2022 (typing errors); the confusions of optical character recognition are those of its usual tables.
"""

import re

import numpy as np

from lorank.ranking.robustness.perturbation import Around, perturbation

ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
NEIGHBOURS = {
    letter: "".join(
        ROWS[r][c]
        for r in range(max(0, row - 1), min(3, row + 2))
        for c in range(max(0, column - 1), column + 2)
        if c < len(ROWS[r]) and ROWS[r][c] != letter
    )
    for row, letters in enumerate(ROWS)
    for column, letter in enumerate(letters)
}
"""The letters beside each on a keyboard."""

CONFUSIONS = {
    "rn": "m",
    "m": "rn",
    "l": "1",
    "1": "l",
    "o": "0",
    "0": "o",
    "cl": "d",
    "e": "c",
    "h": "b",
    "i": "l",
    "vv": "w",
}
OCR_RATE = 0.08
_WORD = re.compile(r"[^\W\d_]{4,}")


@perturbation("typos")
def typos(text: str, rng: np.random.Generator, around: Around) -> str:
    """Return the text with one typing error in one word of four letters or more; without such a word, as it is.

    The error is a letter left out, doubled, swapped with the next, or replaced by its neighbour on the keyboard.

    >>> typos("sorting", np.random.default_rng(0), Around()) != "sorting"
    True
    """
    words = list(_WORD.finditer(text))
    if not words:
        return text
    word = words[int(rng.integers(len(words)))]
    return text[: word.start()] + mistype(word.group(), rng) + text[word.end() :]


def mistype(word: str, rng: np.random.Generator) -> str:
    """Return a word with one error, never at its first letter; a word of equal letters may come back as it is."""
    at, kind = int(rng.integers(1, len(word) - 1)), int(rng.integers(4))
    letter = word[at]
    if kind == 0:
        return word[:at] + word[at + 1 :]
    if kind == 1 and word[at + 1] != letter:
        return word[:at] + word[at + 1] + letter + word[at + 2 :]
    near = NEIGHBOURS.get(letter.lower(), "")
    if kind == 2 and near:
        return word[:at] + near[int(rng.integers(len(near)))] + word[at + 1 :]
    return word[:at] + letter + word[at:]


@perturbation("case")
def case(text: str, rng: np.random.Generator, around: Around) -> str:
    """Return the text in capitals, or in small letters where it has no others than capitals."""
    return text.lower() if text.isupper() else text.upper()


@perturbation("ocr", on="document")
def ocr(text: str, rng: np.random.Generator, around: Around) -> str:
    """Return the text as a scanner might misread it: 8 % of the shapes that look like others are confused."""
    parts, at = [], 0
    while at < len(text):
        for length in (2, 1):
            piece = text[at : at + length]
            if piece in CONFUSIONS and rng.random() < OCR_RATE:
                parts.append(CONFUSIONS[piece])
                at += length
                break
        else:
            parts.append(text[at])
            at += 1
    return "".join(parts)
