"""The calibration pass: real tokens only, autograd's own gradients, and every calibrated start trains."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lorank.data.candidates import TrainingList
from lorank.errors import UsageError
from lorank.lowrank import select_targets
from lorank.ranking import loss
from lorank.ranking.scorers import BiEncoder, CrossEncoder
from lorank.training import fit, load_ranker
from lorank.training.hooks.hook import Hook
from lorank.training.lists.batches import pad_lists
from lorank.training.lists.calibration_pass import calibrate
from lorank.training.lists.list_loss import list_loss
from lorank.training.settings import AdapterSettings, ListSettings, OptimizerSettings, Recipe

SETTINGS = OptimizerSettings(batch_size=2, precision="fp32")
QUICK = Recipe(
    training=OptimizerSettings(steps=2, batch_size=4, lr=1e-3, evaluations=1, precision="fp32"),
    lists=ListSettings(negatives=2),
)


class OneEpoch:
    """Four lists of three texts of unlike lengths."""

    texts = ("moon", "the earth and the sun", "sorting a list " * 6, "a query")
    queries = ("moon", "list")

    def epoch(self, epoch):
        return [
            TrainingList(q, np.array(d), np.array([1.0, 0.0, 0.0], np.float32))
            for q, d in (("a", [0, 1, 2]), ("b", [1, 2, 3]), ("a", [3, 0, 2]), ("b", [2, 1, 0]))
        ]

    def collate(self, lists):
        return pad_lists(lists, {"a": 0, "b": 1})


def pass_over(ranker, kinds, batches=2, rows=4096):
    lists = OneEpoch()
    inputs = ranker.prepare(lists.queries, lists.texts)
    layers = select_targets(ranker.module)
    found = calibrate(ranker, inputs, lists, loss("softmax"), SETTINGS, layers, kinds, batches=batches, rows=rows)
    return found, inputs


@pytest.mark.parametrize("encoder", ["bert", "deberta-v2", "modernbert"])
def test_the_inputs_are_those_of_real_tokens_packed_or_padded(encoder, tiny_folders):
    ranker = BiEncoder(str(tiny_folders[encoder]))
    found, _ = pass_over(ranker, {"inputs"}, batches=1)
    lists = OneEpoch()
    batch = lists.collate(lists.epoch(0)[:2])
    seen = sorted({int(d) for d in batch.documents[batch.mask]})
    texts = [*lists.queries, *(lists.texts[d] for d in seen)]
    tokens = sum(min(len(ranker.tokenizer(text)["input_ids"]), ranker.max_length) for text in texts)
    feed_forward = [path for path in found if path.endswith(("intermediate.dense", "Wi"))]
    assert feed_forward
    assert {len(found[path]["inputs"]) for path in feed_forward} == {tokens}


def test_the_gradient_is_the_mean_of_autograds_over_the_batches(bert):
    ranker = CrossEncoder(bert, seed=0)
    found, inputs = pass_over(ranker, {"gradient", "fisher"})
    lists = OneEpoch()
    path = next(iter(found))
    weight = ranker.module.get_submodule(path).weight
    weight.requires_grad_(True)
    batches = (lists.collate(lists.epoch(0)[i : i + 2]) for i in (0, 2))
    values = (list_loss(ranker, inputs, batch, loss("softmax"), SETTINGS, 0, ranker.device) for batch in batches)
    each = [torch.autograd.grad(value, weight)[0] for value in values]
    torch.testing.assert_close(found[path]["gradient"], (each[0] + each[1]) / 2)
    torch.testing.assert_close(found[path]["fisher"], (each[0].square() + each[1].square()) / 2)


def test_the_pass_changes_neither_weights_nor_what_asks_for_gradients_nor_the_random_state(bert):
    ranker = BiEncoder(bert)
    next(iter(ranker.module.parameters())).requires_grad_(False)
    asked = [p.requires_grad for p in ranker.module.parameters()]
    before = {k: v.clone() for k, v in ranker.module.state_dict().items()}
    state = torch.random.get_rng_state()
    first, _ = pass_over(ranker, {"inputs", "gradient"}, rows=5)
    second, _ = pass_over(ranker, {"inputs", "gradient"}, rows=5)
    assert all(len(each["inputs"]) == 5 for each in first.values())
    assert all(torch.equal(first[path][kind], second[path][kind]) for path in first for kind in first[path])
    assert asked == [p.requires_grad for p in ranker.module.parameters()]
    assert all(torch.equal(before[k], v) for k, v in ranker.module.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert not ranker.module._forward_pre_hooks


@pytest.mark.parametrize("method", ["eva", "gora", "lora-ga", "lora-sb", "loku"])
def test_calibrated_starts_train_and_load_in_the_one_loop(texts, bert, tmp_path, method):
    recipe = replace(QUICK, adapter=AdapterSettings(method, rank=2))
    tuned = fit(BiEncoder(bert), texts, out=tmp_path / "run", recipe=recipe)
    again = load_ranker(tmp_path / "run")
    query = next(iter(texts.test.queries.values()))
    documents = texts.documents[:5]
    np.testing.assert_allclose(tuned.score(query, documents), again.score(query, documents), rtol=1e-5, atol=5e-6)


class Listener(Hook):
    def begin(self, access):
        self.access = access

    def after_step(self, progress, optimizer):
        if progress.step == 1:
            self.training, self.held_out = self.access.training_loss(0), self.access.held_out_loss(0)
            self.dev = self.access.measure()


def test_hooks_reach_the_losses_and_the_measure_of_their_run(texts, bert, tmp_path):
    hook = Listener()
    fit(BiEncoder(bert), texts, "lora", out=tmp_path / "run", recipe=QUICK, hooks=[hook])
    assert hook.training.requires_grad
    assert hook.held_out.requires_grad
    assert 0 <= hook.dev <= 1
    assert hook.access.optimizer.param_groups


def test_the_masked_gradient_start_of_lors_is_calibrated_in_training(texts, bert, tmp_path):
    recipe = replace(QUICK, adapter=AdapterSettings("lors", rank=2, start="lors"))
    fit(BiEncoder(bert), texts, out=tmp_path / "run", recipe=recipe)


def test_loku_reads_the_training_lists_to_forget_and_the_dev_lists_to_retain(texts, bert, tmp_path, monkeypatch):
    from lorank.training import plan

    seen, calibrated = [], plan.calibrate

    def watched(ranker, inputs, lists, loss, settings, layers, kinds, **keywords):
        seen.append((lists, set(kinds)))
        return calibrated(ranker, inputs, lists, loss, settings, layers, kinds, **keywords)

    monkeypatch.setattr(plan, "calibrate", watched)
    fit(BiEncoder(bert), texts, out=tmp_path / "run", recipe=replace(QUICK, adapter=AdapterSettings("loku", rank=2)))
    (forget, one), (retain, other) = seen
    assert one == other == {"fisher"}
    assert forget.split is texts.train
    assert retain.split is texts.dev


def test_statistics_that_no_pass_sees_are_refused_before_it(bert):
    ranker = BiEncoder(bert)
    ranker.module.register_forward_pre_hook(lambda *_: pytest.fail("the pass began"))
    with pytest.raises(UsageError, match="moments"):
        pass_over(ranker, {"inputs", "moments"})
