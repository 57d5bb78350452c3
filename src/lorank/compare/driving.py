"""Run the trials that a plan asks for, until it asks for none: each that ends is kept before the next is counted."""

from collections.abc import Callable, Iterable, Mapping

from lorank.compare.engines import Engine
from lorank.compare.ledger import Ledger
from lorank.compare.trial import Trial


def drive(
    ledger: Ledger,
    engine: Engine,
    pending: Callable[[], Iterable[Trial]],
    on_change: Callable[[Mapping[str, Trial]], None] = lambda running: None,
) -> None:
    """Run trials until ``pending`` gives none that is not under way.

    Args:
        ledger: It keeps the trials that end; their test runs are written beside it.
        engine: It runs them.
        pending: Returns the trials that could run, by what the ledger holds now.
        on_change: It receives the trials that are under way, by their keys, whenever one begins or ends.
    """
    running: dict[str, Trial] = {}
    try:
        while True:
            for trial in pending():
                if len(running) >= engine.capacity:
                    break
                if trial.key not in running:
                    running[trial.key] = trial
                    engine.submit(trial)
            on_change(running)
            if not running:
                return
            trial, ended = engine.wait()
            ended.keep(ledger.path.parent)
            ledger.add(trial.key, ended.line)
            del running[trial.key]
    finally:
        engine.close()
