r"""Plackett and Luce's distribution over orders: a policy that any ranker's scores are.

    \pi(r | s) = \prod_{k=1}^{n} \frac{\exp(s_{r_k} / T)}{\sum_{j \ge k} \exp(s_{r_j} / T)}

Documents are drawn one after the other without replacement. Sorting s / T + g, g standard Gumbel noise, draws a whole
order at once.

Paper: R. L. Plackett, The Analysis of Permutations, 1975; R. D. Luce, Individual Choice Behavior, 1959; J. I. Yellott,
The Relationship between Luce's Choice Axiom, Thurstone's Theory of Comparative Judgment, and the Double Exponential
Distribution, 1977 (the Gumbel noise).
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def sample_orders(scores: Tensor, noise: Tensor) -> Tensor:
    """Return orders int64 [samples, batch, list]: positions of documents, best first.

    Args:
        scores: s / T, [batch, list]; far below all others where there is no document, which then comes last.
        noise: Standard Gumbel noise [samples, batch, list].

    >>> sample_orders(torch.tensor([[0.0, 9.0]]), torch.zeros(1, 1, 2))
    tensor([[[1, 0]]])
    """
    return (scores + noise).argsort(dim=-1, descending=True, stable=True)


def choice_log_probs(arranged: Tensor) -> Tensor:
    r"""Return the log-probability of each choice of an order given those before it, [..., list].

    log \pi_k = s_{r_k} - log \sum_{j \ge k} exp(s_{r_j}); their sum is the log-probability of the order.

    Args:
        arranged: s / T in the order that was drawn, [..., list]; places without a document come last, far below.

    >>> choice_log_probs(torch.zeros(1, 3)).exp()
    tensor([[0.3333, 0.5000, 1.0000]])
    """
    return arranged - arranged.flip(-1).logcumsumexp(-1).flip(-1)


def first_choice_entropy(scores: Tensor, mask: Tensor) -> Tensor:
    """Return the entropy in nats of the first choice, [batch]; 0 where there is one document or none.

    Args:
        scores: s / T, [batch, list].
        mask: bool [batch, list], True where there is a document.

    >>> import math
    >>> value = first_choice_entropy(torch.zeros(1, 4), torch.tensor([[True, True, False, True]]))
    >>> math.isclose(float(value), math.log(3), rel_tol=1e-6)
    True
    """
    lowest = torch.finfo(scores.dtype).min / 4
    logs = F.log_softmax(scores.masked_fill(~mask, lowest), dim=-1)
    return -(logs.exp() * logs).masked_fill(~mask, 0.0).sum(-1)
