"""`lorank train`: adapt a ranker to a collection."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from lorank.cli import completion
from lorank.cli.bad_rows import skipping
from lorank.cli.cascade import check_cascade_options, train_a_cascade
from lorank.cli.folds import train_on_folds
from lorank.cli.options import key_value, setting_value
from lorank.cli.progress import console, progress_bars, stage
from lorank.cli.stream import check_stream, train_on_stream
from lorank.errors import DataError, OnBad, UsageError

if TYPE_CHECKING:
    from lorank.data.collection import Collection
    from lorank.ranking.scorers.ranker import FittedRanker, TrainableRanker
    from lorank.training.recipe import RecipeFile


def train(
    recipe: Annotated[
        Path | None, typer.Argument(help="A recipe in TOML, or the run.json of a run; options override it.")
    ] = None,
    recipe_option: Annotated[Path | None, typer.Option("--recipe", help="The recipe, given as an option.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.names("collection"),
            help="A packaged collection, BEIR folder, LETOR file or folder, or training rows (JSONL, Parquet).",
        ),
    ] = None,
    then: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=completion.names("collection"),
            help="A collection that is learned after --data, from the weights so far; repeat it for a stream.",
        ),
    ] = None,
    continual: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.names("continual"),
            help="How a stream of collections is learned: sequential, one-adapter-each, replay, or a method of `lorank "
            "methods --area continual`. [default: sequential]",
        ),
    ] = None,
    cascade: Annotated[
        bool,
        typer.Option(
            "--cascade",
            help="Train a bi-encoder over the first stage and a cross-encoder over its 20 best, each kept where dev "
            "says that it pays; --set cross.section.key=value reaches the cross-encoder.",
        ),
    ] = False,
    clicks: Annotated[
        str | None,
        typer.Option(help="A click log over --data, which is then what is learned from; dev and test stay as judged."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.bases,
            help="minilm, smollm2, a model folder, or a Hub name; for "
            "feature rows mlp, linear, set-transformer, tsprank, pointer, "
            "adaptdhm, deepfm, boosted, lightgbm, xgboost or catboost.",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.names("kind"),
            help="bi-encoder, cross-encoder, pyramid, causal or features; default: what the base was made for.",
        ),
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.names("view"),
            help="What of a causal model is the score: yes-no, expected, head or "
            "log-ratio; default: log-ratio for preference losses, else "
            "yes-no.",
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Which label of a classifier of several is the score: its name or number.")
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.names("adapter", "full", "head"),
            help="A low-rank method (`lorank methods`), full, or head.",
        ),
    ] = None,
    rank: Annotated[int | None, typer.Option(min=0, help="Rank of the adapter, or of the optimizer.")] = None,
    start: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.names("start"),
            help="Where the factors start: zero, svd, eva, lora-ga, ...; default: the method's own.",
        ),
    ] = None,
    scaling: Annotated[
        str | None,
        typer.Option(autocompletion=completion.names("scaling"), help="lora (alpha / r) or rslora (alpha / sqrt r)."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.names("budget", "none"),
            help="How ranks are shared among layers: none, or a method of `lorank methods --area adapters.rank`.",
        ),
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.names("rule"),
            help="How the factors step: adamw, or a method of `lorank methods --area adapters.optim`.",
        ),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.names("optimizer"),
            help="What steps whole weights, with --adapter full: adamw, or a method of `lorank methods --area "
            "optim.lowrank`; --rank is its rank.",
        ),
    ] = None,
    compress: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.names("compression", "none"),
            help="Train every weight and lower its rank meanwhile: trp, trp-nuclear, maestro or pela. [default: none]",
        ),
    ] = None,
    loss: Annotated[
        str | None, typer.Option(autocompletion=completion.names("loss"), help="softmax, lambda, ranknet, bce, ...")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.names("policy"),
            help="Train a causal language model by what its written replies earn: setwise, listwise, groupwise, "
            "exclude, selection, or a published recipe such as rank-r1, rank-grpo or reinforce-ada.",
        ),
    ] = None,
    reward: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.names("reward"),
            help="What a reply of --policy earns: rank-r1, reasonrank, ...; several are joined by +, as in "
            "rank-r1+length. [default: the policy's own]",
        ),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="What a step of --policy minimises: clipped (policy gradient), cloning (cross-entropy of the replies "
            "your judgments ask for, a first stage), dpo (best reply against worst), or process (scores the steps of "
            "replies, to take the best of several). [default: the policy's own]",
        ),
    ] = None,
    debias: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.names("debias"),
            help="How clicks are weighed: none, ips, dla, pair, trust, or cet (for judgments too). [default: none]",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to write.")] = None,
    first_stage: Annotated[
        str | None,
        typer.Option(
            "--first-stage", "--offset", help="First-stage score to build on: bm25, fusion, none, or a run file."
        ),
    ] = None,
    free_queries: Annotated[
        str | None, typer.Option(help="Extra training queries from the documents: none, titles or first-sentences.")
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option(help="Passes over the training lists. [default: 3; feature rows: at least 200 steps]"),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps, in place of epochs.")] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Wall-clock time of the run, evaluation included: as many steps as fit, in place of epochs; with "
            "--steps no more than those."
        ),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate; default: the one that the adapter's method brings.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Lists a step.")] = None,
    negatives: Annotated[int | None, typer.Option(help="Negatives drawn for each list.")] = None,
    negatives_from: Annotated[
        str | None,
        typer.Option(
            help="Whose candidates they are: first-stage, static (the bi-encoder's own before training), live (its own "
            "at each step; the adapter is for queries alone), adversarial (drawn from those, with --loss ar2), "
            "adaptive (from the part of those that serves dev, which a policy learns) or bottom (the last ones). "
            "[default: first-stage]"
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.rankers,
            help="Learn another's scores in the place of judgments: a run over the training queries, or any ranker; "
            "with --loss kl, margin-mse, mse, rcr or bce.",
        ),
    ] = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16.")] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after so many evaluations without gain.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="An option of a feature model, key=value, such as trees=200 or hidden=[32,16]; repeat it."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            autocompletion=completion.settings,
            help="Any setting of a recipe, section.key=value, such as adapter.alpha=32, start.rho=2 (an option of the "
            "start), reading.max_length=128 or training.warmup=0.2; repeat it.",
        ),
    ] = None,
    save_recipe: Annotated[
        Path | None,
        typer.Option(help="Write the whole recipe, every choice settled, to this TOML file, and train nothing."),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Cross-validate over the judged queries, for collections without a training split, and fit a ranker "
            "on all of them.",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="With --folds: the judged split that is divided.")] = "test",
    negative: Annotated[
        str | None,
        typer.Option(
            help="What a judgment below 0 says: error (refuse it), zero (not relevant), skip (not judged, as TREC's -1 "
            "and -2), or keep (a number like any other, such as a loss of money)."
        ),
    ] = None,
    skip_bad: Annotated[
        bool | None,
        typer.Option(
            "--skip-bad",
            help="Leave bad rows of the data out, and keep them in a file: the name of --out and .skipped.jsonl.",
        ),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            help="How BM25 cuts texts: a language of PyStemmer (english, arabic, ...), cjk, code, words, or auto: by "
            "the script of the documents; the model folder keeps it."
        ),
    ] = None,
    test: Annotated[
        bool | None,
        typer.Option(
            "--test/--no-test",
            help="Judge first stage, untuned base and tuned ranker on the test split at the end, where there is one.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    max_length: Annotated[
        int | None, typer.Option(min=8, help="The most tokens that are read at once; also reading.max_length.")
    ] = None,
    long: Annotated[
        str | None,
        typer.Option(
            help="A document that is too long: truncate, or titled, max, first or mean, the score of its passages, in "
            "training and after. [default: truncate]"
        ),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=completion.trackers,
            help="Send loss, rate and dev to a tracker: tensorboard, wandb, mlflow, ...; repeat it.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Take up the run in --out where it stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
) -> None:
    """Adapt a ranker to your data; dev decides every choice, and the result never falls below the first stage on dev.

    Examples:

        lorank train --data pydocs --base minilm --adapter lora --loss softmax --out runs/first

        lorank train --data my-beir-folder --base minilm --kind cross-encoder --adapter dora --out runs/cross

        lorank train --data pydocs --base minilm --adapter full --optimizer galore --rank 64 --out runs/whole

        lorank train --data pydocs --base minilm --minutes 20 --out runs/twenty

        lorank train --data cranfield --base minilm --folds 5 --out runs/cranfield

        lorank train --data MQ2008/Fold1 --base lightgbm --option leaves=15 --out runs/trees

        lorank train --data pydocs --base minilm --set adapter.alpha=32 --set lists.spare=0.9 --out runs/tried

        lorank train --data pydocs --base minilm --set 'adapter.targets=["word_embeddings", "query"]' --out runs/table

        lorank train --data pydocs --base minilm --adapter eva --set start.rho=3 --save-recipe eva.toml

        lorank train --data pydocs --clicks log.jsonl --debias dla --base minilm --out runs/clicks

        lorank train --data pydocs --base minilm --compress pela --set compress.factor=2 --out runs/small

        lorank train --data my-data --base minilm --negatives-from live --loss lambda --out runs/queries

        lorank train --data my-data --base minilm --negatives-from adversarial --loss ar2 --out runs/ar2

        lorank train --data my-data --base minilm --teacher runs/cross --loss margin-mse --out runs/student

        lorank train --data pydocs --base smollm2 --policy setwise --reward rank-r1 --steps 200 --out runs/thinks

        lorank train --data my-data --base smollm2 --policy erank --objective cloning --out runs/one

        lorank train --data my-data --base smollm2 --policy dynamicrag --set policy.answers=answers.jsonl --out runs/two

        lorank train --data my-data --base runs/merged --policy adaptivestep --set policy.share=0.05 --out runs/best

        lorank train --cascade --data pydocs --set cross.training.epochs=2 --out runs/cascade

        lorank train --data first --then second --then third --continual replay --base minilm --out runs/stream

        lorank train recipe.toml --resume

        lorank train runs/first/run.json --seed 1 --out runs/second
    """
    from lorank.training.checks import check_names
    from lorank.training.recipe import RecipeFile, override, read_recipe, settings_said
    from lorank.training.trackers import check_trackers

    if recipe is not None and recipe_option is not None:
        raise UsageError(f"two recipes, {recipe} and --recipe {recipe_option}; give one")
    recipe = recipe or recipe_option
    given = {
        "data": data,
        "then": then or None,
        "continual.name": continual,
        "cascade.enabled": cascade or None,
        "clicks": clicks,
        "base": base,
        "kind": kind,
        "view": view,
        "label": label,
        "out": str(out) if out else None,
        "seed": seed,
        "judge_test": test,
        "negative": negative,
        "language": language,
        "skip_bad": skip_bad,
        "adapter.name": adapter,
        "adapter.rank": rank,
        "adapter.start": start,
        "adapter.scaling": scaling,
        "budget.name": budget,
        "rule.name": rule,
        "optimizer.name": optimizer,
        "compress.name": compress,
        "loss.name": loss,
        "debias.name": debias,
        "policy.name": "setwise" if policy is None and reward is not None else policy,
        "policy.reward": reward,
        "policy.objective": objective,
        "first_stage.source": first_stage,
        "lists.negatives": negatives,
        "lists.negatives_from": negatives_from,
        "lists.teacher": teacher,
        "lists.free_queries": free_queries,
        "reading.max_length": max_length,
        "reading.long": long,
        "training.epochs": epochs,
        "training.steps": steps,
        "training.minutes": minutes,
        "training.lr": lr,
        "training.batch_size": batch_size,
        "training.precision": precision,
        "training.patience": patience,
    }
    given = {setting: value for setting, value in given.items() if value is not None}
    plan = override(RecipeFile() if recipe is None else read_recipe(recipe), given, "the command")
    changes = dict(setting_value(text) for text in settings or [])
    plan = override(plan, changes)
    plan = replace(plan, options={**plan.options, **dict(key_value(text, "--option") for text in option or [])})
    if plan.data is None:
        raise UsageError("no data; give --data, or `data = ...` in the recipe")
    if plan.out is None and save_recipe is None:
        raise UsageError("no run folder; give --out runs/NAME")
    check_names(plan, given, recipe)
    if plan.then or continual is not None:
        check_stream(plan, folds, save_recipe, track or [])
    check_cascade_options(plan, folds, save_recipe, track or [])
    check_trackers(track or [])
    if track and folds is not None:
        raise UsageError("--track follows one run, and --folds trains one for each fold; leave one out")
    with stage(f"check the settings, read {plan.data}"), skipping(plan.skip_bad, plan.out) as on_bad:
        import lorank
        from lorank.training.cascade.settings import recipes_of
        from lorank.training.checks import check_options
        from lorank.training.open_recipe import reading_of_titles
        from lorank.training.self_fitting import own_options

        for each in recipes_of(plan):
            check_options(each)
        collection = lorank.load(plan.data, negative=plan.negative, on_bad=on_bad, language=plan.language)
        if plan.clicks is not None:
            from lorank.data.click_logs import with_clicks

            collection = with_clicks(collection, plan.clicks, on_bad=on_bad)
        if on_bad is not None:
            for path in (plan.first_stage.source, plan.loss.reference):
                _report_run(path, collection, on_bad)
    console.print(str(collection), soft_wrap=True, markup=False)
    learned = collection.splits.get("train")
    if learned is not None and learned.impressions is not None:  # what the log holds, and what was left out of it
        console.print(collection.card.rpartition("\n\n")[2], soft_wrap=True, markup=False)
    plan = own_options(plan, [*(settings_said(recipe) if recipe else []), *given, *changes], collection)
    plan = replace(plan, reading=reading_of_titles(plan, collection))
    if save_recipe is not None:
        _save_recipe(plan, collection, save_recipe)
        return
    try:
        if plan.then:
            train_on_stream(plan, collection, _command(), resume, overwrite)
        elif plan.cascade.enabled:
            train_a_cascade(plan, collection, _command(), resume, overwrite)
        elif folds is None:
            _fit(plan, collection, resume, overwrite, track or [])
        else:
            train_on_folds(plan, collection, folds, split, _command(), resume, overwrite)
    except KeyboardInterrupt as interrupted:
        console.print(interruption_message(str(interrupted), Path(plan.out or ".")))
        raise typer.Exit(130) from interrupted


def _report_run(path: str, collection: "Collection", on_bad: OnBad) -> None:
    """Report each bad row of a run file once; training then leaves them out."""
    from lorank.data import from_run, read_run

    if not Path(path).is_file():
        return
    seen: set[int | None] = set()

    def once(error: DataError, row: object) -> None:
        if error.line not in seen:
            seen.add(error.line)
            on_bad(error, row)

    run = read_run(path, on_bad=once)
    for split in collection.splits.values():
        if any(query in run for query in split.queries):
            from_run(run, collection, split, path=path, on_bad=once)


def _save_recipe(plan: "RecipeFile", collection: "Collection", path: Path) -> None:
    """Write the recipe with every "auto" decided that base and data decide, and train nothing."""
    from lorank.training.plan import resolve_recipe
    from lorank.training.rates import resolve_rate
    from lorank.training.recipe_text import write_recipe

    ranker = _open_base(plan, collection)
    plan = plan if collection.has_features else replace(plan, kind=ranker.kind)
    if ranker.trained_by_loop:
        trainable = cast("TrainableRanker", ranker)
        settled, budget = resolve_recipe(trainable, collection, plan)
        settled = resolve_rate(settled, budget, trainable).applied(settled)
        named = replace(settled.budget, name=budget)
        plan = replace(plan, adapter=settled.adapter, training=settled.training, budget=named)
    write_recipe(plan, path)
    print(path)


def _open_base(plan: "RecipeFile", collection: "Collection") -> "FittedRanker":
    with stage(f"open {plan.base or 'the ranker'}"):
        from lorank.training.open_recipe import open_recipe_base

        return open_recipe_base(plan, collection)


def _fit(plan: "RecipeFile", collection: "Collection", resume: bool, overwrite: bool, track: list[str]) -> None:
    """Train one ranker, and say what it gained and where it lies."""
    from lorank.training.fitting import fit
    from lorank.training.hooks.tracking import Tracking
    from lorank.training.settings import as_plain

    assert plan.out is not None
    ranker = _open_base(plan, collection)
    if track and not ranker.trained_by_loop:
        raise UsageError(f"--track follows steps, and {plan.base or 'mlp'} learns by its own objective; leave it out")
    tracking = Tracking(track, Path(plan.out), as_plain(plan)) if track else None
    with progress_bars() as on_progress:
        tuned = fit(
            ranker,
            collection,
            out=plan.out,
            recipe=plan,
            hooks=[] if tracking is None else [tracking],
            resume=resume,
            overwrite=overwrite,
            command=_command(),
            on_progress=on_progress,
        )
    if tracking is not None:
        tracking.close(
            {tuned.dev["name"]: tuned.dev["value"]}
            | {f"{gain['split']}/gain": gain["difference"] for gain in tuned.gain}
        )
    console.print(tuned.dev["sentence"], soft_wrap=True)
    for gain in tuned.gain:
        console.print(gain["sentence"], soft_wrap=True)
    for note in tuned.notes:
        console.print(note, soft_wrap=True)
    print(Path(plan.out) / "model")


def _command() -> str:
    return "lorank " + shlex.join(sys.argv[1:])


def interruption_message(said: str, out: Path) -> str:
    """Return what Ctrl-C left, and the words that go on from there."""
    if not said:
        kept = any(out.rglob("checkpoints/step-*"))
        said = "interrupted; the last checkpoint is kept" if kept else "interrupted before there was a checkpoint"
        if not kept:
            return f"{said}; start again with the same command and --overwrite"
    command = [part for part in sys.argv[1:] if part not in ("--resume", "--overwrite")]
    return f"{said}\ngo on with: {shlex.join(['lorank', *command, '--resume'])}"
