r"""Classifiers as rankers: which of a head's labels is the score.

    s = z_l                                       for one label, or labels that do not exclude each other
    s = z_l - \log \sum_{m \neq l} e^{z_m}        for labels of which one holds

The second is the log-odds of the label, so that the sigmoid of a score is the label's probability in either case: of
two labels it is z_1 - z_0, and the sigmoid of it is what a softmax over the two gives.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorank.errors import UsageError

Label = int | str


@dataclass(frozen=True)
class ChosenLabel:
    """The label that is the score: its ``index`` and its ``name``, and whether labels are ``independent``."""

    index: int
    name: str
    count: int
    independent: bool = False

    @classmethod
    def of(cls, config: Any, label: Label | None, source: str) -> "ChosenLabel | None":
        """Return the label of a classifier's configuration that ``label`` names, None for a head of one label.

        Args:
            config: The configuration of a sequence classifier.
            label: The number of a label or its name, or None for a head of one.
            source: What the classifier is called in errors.

        Raises:
            UsageError: Where there are several labels and none is chosen, or the one that is chosen does not exist.
        """
        count, names = int(config.num_labels), label_names(config)
        if count == 1:
            if label not in (None, 0, "0", names[0]):
                raise UsageError(f"label={label!r}: {source} has one label, which is its score; leave out label")
            return None
        listed = ", ".join(f"{index} ({name})" for index, name in enumerate(names))
        if label is None:
            raise UsageError(
                f"{source} classifies into {count} labels: {listed}; say which of them is the score with label=... in "
                "Python and in recipes, --label on the command line"
            )
        index = find_label(names, label)
        if index is None:
            raise UsageError(f"label={label!r} is none of the {count} labels of {source}: {listed}")
        independent = getattr(config, "problem_type", None) in ("multi_label_classification", "regression")
        return cls(index, names[index], count, independent)

    def score(self, logits: Tensor) -> Tensor:
        """Return the scores [n] of ``logits`` [n, labels].

        >>> label = ChosenLabel(1, "entailment", 2)
        >>> label.score(torch.tensor([[0.5, 2.0]])).tolist()
        [1.5]
        """
        own = logits[:, self.index]
        if self.independent:
            return own
        others = torch.arange(self.count, device=logits.device) != self.index
        return own - logits[:, others].logsumexp(1)


def label_names(config: Any) -> list[str]:
    """Return the names of a classifier's labels, by their numbers."""
    names = {int(index): str(name) for index, name in (getattr(config, "id2label", None) or {}).items()}
    return [names.get(index, f"LABEL_{index}") for index in range(int(config.num_labels))]


def find_label(names: list[str], label: Label) -> int | None:
    """Return the number of a label given by number or by name (case does not matter), None where there is none.

    >>> find_label(["contradiction", "entailment"], "Entailment"), find_label(["no", "yes"], "1"), find_label(["no"], 3)
    (1, 1, None)
    """
    folded = [name.casefold() for name in names]
    if isinstance(label, str) and label.casefold() in folded:
        return folded.index(label.casefold())
    try:
        index = int(label)
    except ValueError:
        return None
    return index if 0 <= index < len(names) else None
