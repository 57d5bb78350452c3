"""What the tab key offers behind an option: names that are read from the sources, without torch."""

from collections.abc import Callable

from lorank import index

Complete = Callable[[str], list[str]]


def names(family: str, *also: str) -> Complete:
    """Return a function that completes the names of a family of methods, and the words ``also``."""

    def complete(incomplete: str) -> list[str]:
        return find_matching([*also, *index.names(family)], incomplete)

    return complete


def bases(incomplete: str) -> list[str]:
    """Return the packaged models and the feature models that begin so."""
    return find_matching([*index.names("base"), *index.names("feature-model")], incomplete)


def rankers(incomplete: str) -> list[str]:
    """Return the rankers that have a name and begin so; folders are the shell's own part."""
    return find_matching(
        [*index.names("base"), "bm25", "lambdamart", *(f"{judge}:" for judge in index.names("judge"))], incomplete
    )


def settings(incomplete: str) -> list[str]:
    """Return the settings of a recipe that begin so, as ``section.key=``."""
    from dataclasses import fields, is_dataclass

    from lorank.training.recipe import RecipeFile

    plan, found = RecipeFile(), []
    for section in fields(plan):
        part = getattr(plan, section.name)
        if is_dataclass(part):
            found += [f"{section.name}.{key.name}=" for key in fields(part)]
        elif section.name != "options":
            found.append(f"{section.name}=")
    return find_matching(found, incomplete)


def reading_settings(incomplete: str) -> list[str]:
    """Return the settings of how a ranker reads that begin so."""
    return [each for each in settings(incomplete) if each.startswith("reading.")]


def trackers(incomplete: str) -> list[str]:
    """Return the experiment trackers that begin so."""
    from lorank.training.trackers import PACKAGES

    return find_matching(list(PACKAGES), incomplete)


def measures(incomplete: str) -> list[str]:
    """Return common measures that begin so, whatever their case; what was typed stays as it is."""
    common = ("nDCG@10", "nDCG@20", "RR@10", "AP", "R@100", "R@1000", "P@10", "Success@1", "Rprec", "Bpref")
    begun = [each for each in common if each.lower().startswith(incomplete.lower())]
    return [incomplete + each[len(incomplete) :] for each in begun]


def find_matching(known: list[str], incomplete: str) -> list[str]:
    """Return the words that begin with what was typed, each once, in alphabetical order.

    >>> find_matching(["softmax", "sigmoid", "bce", "softmax"], "s")
    ['sigmoid', 'softmax']
    """
    return sorted({word for word in known if word.startswith(incomplete)})
