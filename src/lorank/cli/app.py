"""The command-line application: collects the commands, and imports what they need only when they run."""

from typing import Annotated

import typer

from lorank import plugins
from lorank.cli.adapter import adapter
from lorank.cli.aggregate import aggregate
from lorank.cli.agree import agree
from lorank.cli.calibrate import calibrate
from lorank.cli.clarify import clarify
from lorank.cli.clicks_online import clicks
from lorank.cli.compare import compare
from lorank.cli.demo import demo
from lorank.cli.dense_index import index
from lorank.cli.depth import depth
from lorank.cli.evaluate import evaluate
from lorank.cli.fairness import fairness
from lorank.cli.federate_network import federate
from lorank.cli.import_data import import_data
from lorank.cli.imports import OPTION, with_imports
from lorank.cli.inspect import inspect
from lorank.cli.key import key, keys
from lorank.cli.label import label
from lorank.cli.methods import methods
from lorank.cli.plan import plan
from lorank.cli.pretrain import pretrain
from lorank.cli.push import push
from lorank.cli.queries import queries
from lorank.cli.rank import rank
from lorank.cli.recommend import recommend
from lorank.cli.report import report
from lorank.cli.reproduce import reproduce
from lorank.cli.rerank import rerank
from lorank.cli.retrieve import retrieve
from lorank.cli.review import review
from lorank.cli.route import route
from lorank.cli.serve import serve
from lorank.cli.shrink import shrink
from lorank.cli.stress import stress
from lorank.cli.train import train
from lorank.cli.tune import tune

app = typer.Typer(
    name="lorank",
    help="Learn to rank with low-rank models: train, adapt, rerank, judge, serve.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    demo,
    import_data,
    queries,
    label,
    train,
    pretrain,
    retrieve,
    rerank,
    review,
    rank,
    serve,
    key,
    evaluate,
    compare,
    agree,
    shrink,
    tune,
    reproduce,
    calibrate,
    stress,
    fairness,
    aggregate,
    report,
    push,
    depth,
    inspect,
    plan,
    methods,
):
    environment = {"auto_envvar_prefix": "LORANK_SERVE"} if command is serve else None
    app.command("import" if command is import_data else None, context_settings=environment)(command)
for registered in (
    *app.registered_commands,
    *adapter.registered_commands,
    *clicks.registered_commands,
    *index.registered_commands,
    *route.registered_commands,
    *federate.registered_commands,
    *recommend.registered_commands,
    *clarify.registered_commands,
):
    registered.callback = with_imports(registered.callback)  # type: ignore[arg-type]
app.add_typer(adapter, name="adapter")
app.add_typer(clicks, name="clicks")
app.add_typer(index, name="index")
app.add_typer(route, name="route")
app.add_typer(federate, name="federate")
app.add_typer(recommend, name="recommend")
app.add_typer(clarify, name="clarify")
app.add_typer(keys, name="keys")


@app.callback(invoke_without_command=True)
def version(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
    imports: Annotated[list[str] | None, OPTION] = None,
) -> None:
    plugins.use(imports or [])
    if version:
        from lorank import __version__

        print(__version__)
        raise typer.Exit
