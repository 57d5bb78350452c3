"""Every form that chooses among its components anew for each token: it cannot be merged, and says so."""

from torch import Tensor

from lorank.errors import UsageError
from lorank.lowrank.forms.form import Form


class TokenRouted(Form):
    """An update that depends on the input beyond a product with one matrix."""

    mergeable = False

    def delta(self, weight: Tensor) -> Tensor:
        raise UsageError(
            f"a {type(self).__name__} routes every token by itself: no one matrix stands for it, so it cannot be "
            "merged, exported as a LoRA or averaged; serve it as an adapter"
        )
