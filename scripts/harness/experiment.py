"""The one loop that all experiments run in: `run`, from the ranks and the log dir to results.json.

An `Experiment` is what a command asks for: plans, and nothing loaded yet. It opens a `Work`: texts and a model, what is
left of them to do, how one piece is done and kept, and what comes out. `documents.py` has the work on single texts.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import closing, nullcontext
from pathlib import Path
from signal import Signals
from typing import Any, ClassVar

from models.attention.prefill import measured
from scripts.harness.announcing import announcing_backends
from scripts.harness.model import RunnableModel
from scripts.harness.prefill import Prefill
from utils.arguments import RunPlan
from utils.errors import NothingDoneError, Stopped, UserError
from utils.ranks.runtime import Runtime, describe_device, joined_ranks
from utils.ranks.shared_folder import check_shared
from utils.ranks.stopping import stopping
from utils.trials.files import RESULTS
from utils.trials.trial import Trial
from utils.utils import describe_run

Results = dict[str, Any]


class Experiment(ABC):
    """One way to evaluate a model, as a command asks for it.

    script: the command's name, which config.json records. every_rank_writes: whether all ranks keep files in the log
    dir while it runs; else only the first one does.
    """

    script: ClassVar[str]
    every_rank_writes: ClassVar[bool] = False

    @abstractmethod
    def open(self, runtime: Runtime) -> "Work":
        """Find the texts and load the model, on every rank; the log dir is not touched."""

    @abstractmethod
    def describe(self, results: Results) -> str:
        """The results as text."""

    def failure(self, results: Results) -> str | None:
        """Why these results count as none, in a sentence; None where they do not. The command then ends with 1."""
        return None

    def tidy(self, log_dir: Path) -> None:  # noqa: B027  most have nothing to remove
        """Remove what a finished trial does not need; the first rank calls it."""


class Work(ABC):
    """An experiment under way. `run` calls the methods as they stand here, on every rank unless they say otherwise.

    corpus_name, count: of the texts that are read, for config.json. announcement: what is said of them, behind the
    names of the model and the device. prefill: how texts are read, where that is not the experiment's own matter.
    saves: whether there is something to save where a signal ends the run, besides what was kept.
    """

    prefill: Prefill | None = None
    saves: ClassVar[bool] = False

    def __init__(self, runtime: Runtime, model: RunnableModel, corpus_name: str, count: int, announcement: str) -> None:
        self.runtime, self.model = runtime, model
        self.corpus_name, self.count, self.announcement = corpus_name, count, announcement

    @abstractmethod
    def resume(self, trial: Trial | None, log_dir: Path) -> None:
        """Read what the trial has done so far, and get ready for the rest.

        trial: None but on the first rank. log_dir: its folder, where every rank may keep files of its own.
        """

    @abstractmethod
    def pieces(self) -> Generator[Any, None, None]:
        """The pieces that are left: this rank's share of each. Every rank has as many."""

    @abstractmethod
    def do(self, piece: Any) -> Any:
        """Do one piece; returns what the first rank is to hear of it, a value that fits into JSON."""

    @abstractmethod
    def keep(self, gathered: list[Any], seconds: float) -> None:
        """On the first rank: write what all ranks have done, in their order, of a piece that took so long."""

    def save(self) -> None:  # noqa: B027  most have kept everything already
        """After a piece, on every rank: save what a run that ends now needs to go on from here."""

    @abstractmethod
    def results(self) -> Results:
        """On the first rank, when nothing is left: the content of results.json."""


def run(experiment: Experiment, plan: RunPlan) -> None:
    """Run the trial in --log_dir, or go on with it; one that is finished is only shown."""
    with (
        joined_ranks(plan.seed, plan.rank_timeout, plan.sequence_parallel) as runtime,
        runtime.console.logging_errors(),
    ):
        trial = open_trial(experiment, plan, runtime)
        results = show_finished(trial, experiment, plan, runtime)
        if results is not None:
            refuse_failure(experiment, results)
            return
        check_shared(Path(plan.log_dir), experiment.every_rank_writes, runtime)
        work = experiment.open(runtime)
        begin(trial, work, experiment, plan, runtime)
        with runtime.hearing(), announcing_backends(runtime.console):
            work.resume(trial, Path(plan.log_dir))
            work_through(work, trial, runtime)
        refuse_failure(experiment, finish(trial, work, experiment, runtime))


def open_trial(experiment: Experiment, plan: RunPlan, runtime: Runtime) -> Trial | None:
    """The trial in --log_dir, which only the first rank holds."""
    trial = None
    with runtime.together():
        if runtime.is_main:
            how = plan.overwrite, plan.repair
            trial = Trial.open(plan.log_dir, experiment.script, plan.recorded, runtime.console, *how)
    return trial


def show_finished(trial: Trial | None, experiment: Experiment, plan: RunPlan, runtime: Runtime) -> Results | None:
    """Show the results of a trial that has some; returns them, on every rank, or None where there are none."""
    results = None
    with runtime.together():
        if runtime.is_main:
            results = trial.results
        if results is not None:
            described = describe_finished(experiment, results, plan)
            experiment.tidy(trial.folder)  # it may have been killed before it did so itself
            runtime.console.say(f"already finished: {plan.log_dir} holds this trial\n{described}")
    return runtime.broadcast(results)


def describe_finished(experiment: Experiment, results: Results, plan: RunPlan) -> str:
    """The results as text. Raises UserError where they are none: those of an old version have no checksum."""
    try:
        return experiment.describe(results)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(
            f"{Path(plan.log_dir) / RESULTS} holds no results of this script ({type(error).__name__}: {error}): start "
            "afresh with --overwrite"
        ) from None


def begin(trial: Trial | None, work: Work, experiment: Experiment, plan: RunPlan, runtime: Runtime) -> None:
    """Write config.json, or have the trial refuse what it was not begun with; then say what is read by what."""
    model, measurements = work.model, None
    with runtime.together():
        if runtime.is_main:
            facts = (model.identity, model.lambda_attention, work.corpus_name, work.count)
            read = {} if work.prefill is None else {"prefill_chunk": work.prefill.chunk}
            trial.begin(describe_run(experiment.script, plan, runtime, *facts) | read)
            measurements = trial.config.get(measured.RECORDED, [])
    measured.recall(runtime.broadcast(measurements))
    runtime.console.say(f"{model.name} on {describe_device(runtime.device)}{work.announcement}")
    if model.method:
        runtime.console.say(model.method)


def work_through(work: Work, trial: Trial | None, runtime: Runtime) -> None:
    """Every rank does its share of each piece that is left, and the first one keeps what all have done."""
    waits = stopping.deferred() if work.saves or runtime.world_size > 1 else nullcontext()
    with closing(work.pieces()) as pieces, waits:
        for piece in pieces:
            started = time.monotonic()
            gathered = runtime.gather([work.do(piece), measured.found()])
            seconds = time.monotonic() - started
            agree_on_attention([found for _, rank in gathered for found in rank], trial, runtime)
            with runtime.together():
                if runtime.is_main:
                    work.keep([done for done, _ in gathered], seconds)
            leave_if_asked(work, runtime)


def agree_on_attention(found: list[dict[str, Any]], trial: Trial | None, runtime: Runtime) -> None:
    """Have all ranks attend from now on as the first of them that has measured a kind of layer.

    config.json says it, so that a run that goes on does so too. found: what each rank has found, on the first one.
    """
    measured.agree(found)
    agreed = runtime.broadcast(measured.found())
    measured.agree(agreed)
    with runtime.together():
        if runtime.is_main and agreed:
            trial.note(measured.RECORDED, agreed)


def leave_if_asked(work: Work, runtime: Runtime) -> None:
    """Where a rank has received a signal, have all save what there is. Raises Stopped on all."""
    number = runtime.largest(stopping.received)
    if number:
        work.save()
        runtime.console.say(f"{Signals(number).name} was received, what is done is kept: the same command goes on")
        raise Stopped(number)


def finish(trial: Trial | None, work: Work, experiment: Experiment, runtime: Runtime) -> Results:
    """Write results.json, remove what nobody needs any more, and show the results; every rank is given them."""
    results = None
    with runtime.together():
        if runtime.is_main:
            results = work.results()
            trial.finish(results)
            experiment.tidy(trial.folder)
            runtime.console.say(experiment.describe(results))
    return runtime.broadcast(results)


def all_failed(failed: int, done: int, what: str) -> str | None:
    """The sentence that all of some examples failed; None where one did not. what: one of them is called."""
    if failed < done:
        return None
    every = f"all {done:,} {what}s" if done > 1 else f"the one {what}"
    return f"{every} failed, so there is no score: samples.jsonl says why, --overwrite tries again"


def refuse_failure(experiment: Experiment, results: Results) -> None:
    """Raise NothingDoneError, on every rank, where the results count as none."""
    sentence = experiment.failure(results)
    if sentence is not None:
        raise NothingDoneError(sentence)
