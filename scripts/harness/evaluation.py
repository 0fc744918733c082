"""What every evaluation script does around its experiment: join the ranks, open the trial, finish it, show it."""

from argparse import Namespace
from collections.abc import Callable
from typing import Any

from utils.ranks.runtime import Runtime, joined_ranks
from utils.trials.trial import Trial

Results = dict[str, Any]


def evaluate(
    script: str,
    arguments: Namespace,
    experiment: Callable[[Trial | None, Namespace, Runtime], Results | None],
    describe: Callable[[Results], str],
    tidy: Callable[[Trial], None] = lambda trial: None,
) -> None:
    """Run or go on with the trial in --log_dir; one that is finished is only shown.

    experiment: called on every rank, with the trial on the first; returns there what results.json will hold. describe:
    results.json as text. tidy: removes what a finished trial does not need.
    """
    with joined_ranks(arguments.seed) as runtime, runtime.console.logging_errors():
        trial, found = None, None
        with runtime.together():
            if runtime.is_main:
                trial = Trial.open(arguments.log_dir, script, vars(arguments), runtime.console)
                found = trial.results
        if runtime.broadcast(found is not None):
            with runtime.together():
                if runtime.is_main:
                    tidy(trial)  # the kill may have come before
                    runtime.console.say(f"{arguments.log_dir} holds this trial, finished:\n{describe(found)}")
            return
        results = experiment(trial, arguments, runtime)
        with runtime.together():
            if runtime.is_main:
                trial.finish(results)
                tidy(trial)
                runtime.console.say(describe(results))
