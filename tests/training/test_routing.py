"""Routers inside the training loop: they train, score alike when loaded again, and their penalties count."""

from dataclasses import replace

import pytest
import torch

from lorank.errors import UsageError
from lorank.lowrank.routing import Conditions, conditions, context
from lorank.ranking import loss
from lorank.ranking.scorers import BiEncoder, CrossEncoder
from lorank.training import fit, load_ranker
from lorank.training.hooks.hook import Hook, Progress
from lorank.training.hooks.routing import RoutingContext, preference_loss, sweep_preferences
from lorank.training.hooks.rule import penalties
from lorank.training.settings import AdapterSettings, ListSettings, OptimizerSettings, Recipe

pytestmark = pytest.mark.usefixtures("own_cache")
QUICK = Recipe(
    training=OptimizerSettings(steps=4, batch_size=4, lr=5e-3, evaluations=2), lists=ListSettings(negatives=3, depth=20)
)


@pytest.mark.parametrize("name", ["flylora", "mixture-of-routers", "base-layers", "taps", "mhr", "palora"])
@pytest.mark.parametrize("kind", [BiEncoder, CrossEncoder])
def test_a_routed_ranker_trains_and_its_folder_scores_the_same(name, kind, texts, tiny_folders, tmp_path):
    recipe = replace(QUICK, adapter=AdapterSettings(name, rank=4, targets=["query", "value"]))
    tuned = fit(kind(str(tiny_folders["bert"])), texts, out=tmp_path / "run", recipe=recipe)
    documents = list(texts.documents[:6])
    one, two = tuned.score("moon earth", documents), load_ranker(tmp_path / "run").score("moon earth", documents)
    assert abs(one - two).max() <= 1e-6 * max(1.0, abs(one).max())


def test_penalties_are_summed_over_the_layers_and_asked_for_only_where_there_are_some():
    from lorank import lowrank

    def attached(name):
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
        return lowrank.attach(model, name, rank=1, options={"sparsity": 0.5} if name == "taps" else {})

    (hook,) = penalties(attached("taps"))
    assert hook.penalty(Progress(0, 1, 0)).item() == pytest.approx(0.5)  # the mean over two layers of |1|, times 0.5
    assert penalties(attached("lora")) == []
    assert penalties(None) == []


class Last(Hook):
    """Keeps what is trained as the last step left it; the run itself may put better weights back."""

    def after_step(self, progress, optimizer):
        self.values = [p.detach().clone() for group in optimizer.param_groups for p in group["params"]]


def trained(name, hook, texts, tiny_folders, out, **options):
    adapter, last = AdapterSettings(name, rank=2, targets=["query"], options=options), Last()
    recipe = replace(QUICK, adapter=adapter)
    fit(BiEncoder(str(tiny_folders["bert"])), texts, out=out, hooks=[hook, last], recipe=recipe)
    return last.values


def test_the_loop_tells_routers_the_task_and_the_preference_of_a_step(texts, tiny_folders, tmp_path):
    corner = RoutingContext(lambda step, steps: Conditions(preferences=torch.tensor([0.0, 1.0])))
    values = trained("palora", corner, texts, tiny_folders, tmp_path / "palora", tasks=2)
    factors = [value for value in values if value.shape == (2, 32, 2)]
    assert len(factors) == 2
    for B in factors:
        assert B[0].abs().max() == 0
        assert B[1].abs().max() > 0
    task = RoutingContext(lambda step, steps: Conditions(tasks=step % 2))
    values = trained("mhr", task, texts, tiny_folders, tmp_path / "mhr", tasks=3, modules=2, heads=1)
    logits = [value for value in values if value.shape == (3, 1, 2)]
    assert len(logits) == 2
    for Z in logits:
        assert Z[:2].abs().min() > 0
        assert Z[2].abs().max() == 0
    assert conditions() == Conditions()


def test_preferences_sweep_the_simplex_over_a_run():
    hook, seen = sweep_preferences(2, points=3), []
    for step in range(8):
        hook.before_step(Progress(step, 8, 0), None)
        seen.append(conditions().preferences.tolist())
        hook.after_step(Progress(step + 1, 8, 0), None)
    assert seen[0] == pytest.approx([0.5, 0.5])
    assert any(weights == pytest.approx([0.0, 1.0]) for weights in seen)
    assert any(weights == pytest.approx([1.0, 0.0]) for weights in seen)
    assert conditions().preferences is None


def test_a_preferred_loss_is_the_weighted_sum():
    losses = [loss("softmax"), loss("ranknet")]
    scores, labels = torch.randn(3, 5), torch.tensor([[1.0, 0, 0, 1, 0]] * 3)
    mask = torch.ones(3, 5, dtype=torch.bool)
    values = [each(scores, labels, mask) for each in losses]
    with context(preferences=[0.3, 0.7]):
        torch.testing.assert_close(preference_loss(losses)(scores, labels, mask), 0.3 * values[0] + 0.7 * values[1])
    torch.testing.assert_close(preference_loss(losses)(scores, labels, mask), sum(values) / 2)
    with context(preferences=[1.0]), pytest.raises(UsageError, match="1 preferences were given for 2 losses"):
        preference_loss(losses)(scores, labels, mask)
