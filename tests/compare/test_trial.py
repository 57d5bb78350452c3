"""Trials and their keys: what is the default leaves no trace, so that a setting that is new keeps old trials."""

from lorank.compare.experiment_file import read_experiment
from lorank.compare.trial import key_of, trials_of


def trial(**more):
    experiment = read_experiment({"data": "pydocs", "base": "minilm", "adapter": {"name": ["lora"]}} | more)
    return trials_of(experiment, experiment.rows[0], 0)[0]


def without(settings, section, key):
    part = {name: value for name, value in settings["recipe"][section].items() if name != key}
    return settings | {"recipe": settings["recipe"] | {section: part}}


def test_a_setting_that_is_new_keeps_the_keys_of_older_trials():
    settings = trial().settings
    assert key_of(without(settings, "lists", "spare")) == key_of(settings)
    stated = trial(lists={"spare": 0.5})
    assert stated.key != key_of(settings)


def test_a_default_that_changed_is_another_trial(monkeypatch):
    from lorank.compare import trial as module

    before = trial().settings
    changed = module._defaults() | {"lists": module._defaults()["lists"] | {"spare": 0.5}}
    monkeypatch.setattr(module, "_defaults", lambda: changed)
    assert "0.95" in key_of(before)


def test_stating_a_default_changes_nothing_and_any_other_value_does():
    assert trial(training={"warmup": 0.1}).key == trial().key
    keys = [
        trial().key,
        trial(training={"warmup": 0.2}).key,
        trial(adapter={"name": ["dora"]}).key,
        trial(measures=["RR@10"]).key,
        trial(folds=3).key,
        trial(split="dev").key,
        trial(options={"trees": 3}).key,
    ]
    assert len(set(keys)) == len(keys)
