"""The loop of all experiments, with one that counts letters: what is done, by whom, in which order, after an error."""

import gc
import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from models.attention.prefill import measured
from scripts.harness.documents import DocumentWork
from scripts.harness.experiment import Experiment, Work, agree_on_attention, run, work_through
from scripts.harness.model import RunnableModel
from utils.arguments import RunPlan
from utils.console import Console
from utils.errors import SharedError, UserError
from utils.progress import Amount
from utils.ranks.runtime import Runtime

MODEL = RunnableModel(torch.nn.Identity(), None, {"name": "reader", "vocab_size": 26}, None)
WORDS = ("lambda", "is", "a", "letter", "of", "the", "Greeks")
RUNTIME = Runtime(0, 1, torch.device("cpu"), Console(), None)


@pytest.fixture(autouse=True)
def nothing_measured(monkeypatch):
    monkeypatch.setattr(measured, "_found", {})


@dataclass(frozen=True)
class Letters(Experiment):
    """unreadable: the word that cannot be read, if any."""

    unreadable: str | None = None

    script = "count_letters"

    def open(self, runtime):
        return Counting(runtime, MODEL, WORDS, "words", 10, batch_size=2, kind="word", unreadable=self.unreadable)

    def describe(self, results):
        return f"{results['letters']} letters"

    def tidy(self, log_dir):
        (log_dir / "scratch").unlink(missing_ok=True)


class Counting(DocumentWork):
    def __init__(self, *given, unreadable, **named):
        super().__init__(*given, **named)
        self.unreadable = unreadable

    def resume(self, trial, log_dir):
        super().resume(trial, log_dir)
        self.progress = self.show_progress(Amount(self.count, len(self.done), "words"))
        (log_dir / "scratch").touch()

    def do(self, piece):
        with self.runtime.together():
            words = self.read(piece)
            if self.unreadable in words:
                raise UserError(f"{self.unreadable!r} cannot be read")
        return [{"index": self._first + place, "letters": len(word)} for place, word in zip(piece, words)]

    def keep(self, gathered, seconds):
        lines = [line for rank in gathered for line in rank]
        self.journal.commit(lines, seconds, self.peak_memory())
        self.progress.end_step(len(lines))

    def results(self):
        return {"letters": sum(line["letters"] for line in self.journal.lines)}


@pytest.fixture
def plan(tmp_path):
    return RunPlan(str(tmp_path / "log"), overwrite=False, seed=None, recorded={"words": 7, "batch_size": 2})


def lines(plan):
    return [json.loads(line) for line in (Path(plan.log_dir) / "samples.jsonl").read_text().splitlines()]


def test_every_text_is_done_once_and_the_results_are_shown_and_kept(plan, capsys):
    run(Letters(), plan)
    assert [line["index"] for line in lines(plan)] == list(range(10, 17))
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("reader on cpu (") and said[0].endswith(", 7 words of words")
    assert said[-1] == f"{len(''.join(WORDS))} letters"
    log_dir = Path(plan.log_dir)
    assert json.loads((log_dir / "results.json").read_text())["letters"] == len("".join(WORDS))
    config = json.loads((log_dir / "config.json").read_text())
    assert (config["script"], config["seed"], config["arguments"]) == ("count_letters", None, plan.recorded)
    assert config["corpus"] == {"name": "words", "documents": 7} and not (log_dir / "scratch").exists()


def test_a_trial_goes_on_after_what_is_kept_and_a_finished_one_is_only_shown(plan, capsys, monkeypatch):
    with pytest.raises(SharedError, match="'the' cannot be read"):
        run(Letters(unreadable="the"), plan)
    assert [line["index"] for line in lines(plan)] == [10, 11, 12, 13] and (Path(plan.log_dir) / "scratch").exists()
    assert "error: 'the' cannot be read" in (Path(plan.log_dir) / "log.txt").read_text()
    before = (Path(plan.log_dir) / "samples.jsonl").read_text()
    run(Letters(), plan)
    assert (Path(plan.log_dir) / "samples.jsonl").read_text().startswith(before)
    assert [line["index"] for line in lines(plan)] == list(range(10, 17))
    capsys.readouterr()
    monkeypatch.setattr(Letters, "open", lambda *_: pytest.fail("a finished trial was opened"))
    (Path(plan.log_dir) / "scratch").touch()
    run(Letters(), plan)
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"already finished: {plan.log_dir} holds this trial",
        "26 letters",
    ]
    assert not (Path(plan.log_dir) / "scratch").exists()


def test_what_was_measured_of_the_processor_is_in_config_and_counts_when_the_trial_goes_on(plan, monkeypatch):
    found, recalled = [{"backend": "edges"}], []
    monkeypatch.setattr(measured, "found", lambda: found)
    monkeypatch.setattr(measured, "recall", recalled.append)
    with pytest.raises(SharedError):
        run(Letters(unreadable="the"), plan)
    config = Path(plan.log_dir) / "config.json"
    assert json.loads(config.read_text())["attention_measured"] == found
    before = config.read_bytes()
    run(Letters(), plan)
    assert recalled == [[], found] and config.read_bytes() == before


KIND = measured.Kind("float32", 4, 2, 8, 8, 300, 4, False, ("blockwise", "edges"))


def found_by(backend, where):
    return {"backend": backend, "seconds": {"blockwise": 2.0, "edges": 1.0}, "where": where} | measured._plain(KIND)


class Notes:
    def __init__(self):
        self.noted = {}

    def note(self, name, value):
        self.noted[name] = value


@pytest.mark.parametrize("rank", [0, 1])
def test_ranks_that_chose_differently_take_what_the_first_of_them_found(rank, monkeypatch):
    own = [found_by("edges", "first"), found_by("blockwise", "second")]
    measured.recall([own[rank]])
    runtime = TwoRanks(rank, 2, torch.device("cpu"), Console(), None)
    monkeypatch.setattr(TwoRanks, "broadcast", lambda self, value: own[:1] if value and rank == 1 else value)
    trial = Notes() if rank == 0 else None
    agree_on_attention(own if rank == 0 else [], trial, runtime)
    assert [(x["backend"], x["where"]) for x in measured.found()] == [("edges", "first")]
    assert trial is None or trial.noted == {"attention_measured": [own[0]]}


def test_an_error_leaves_nothing_that_holds_the_log_dir(plan):
    gc.disable()  # a circle of references would be found sooner or later
    try:
        with pytest.raises(SharedError, match="'the' cannot be read"):
            run(Letters(unreadable="the"), plan)
        run(Letters(), plan)
    finally:
        gc.enable()


def test_other_flags_are_refused(plan):
    run(Letters(), plan)
    with pytest.raises(SharedError, match="--words was 7 and is 8 now"):
        run(Letters(), replace(plan, recorded=plan.recorded | {"words": 8}))


class Pair(Work):
    """Two pieces; what is done, kept and closed is written down in its order."""

    def __init__(self, runtime):
        super().__init__(runtime, MODEL, "pair", 2, "")
        self.done = []

    def resume(self, trial, log_dir): ...

    def pieces(self):
        try:
            yield from ("first", "second")
        finally:
            self.done.append("closed")

    def do(self, piece):
        self.done.append(piece)
        return piece

    def keep(self, gathered, seconds):
        assert seconds >= 0
        self.done.append(f"kept {' and '.join(gathered)}")

    def results(self): ...


class TwoRanks(Runtime):
    """The first or second of two ranks, without the other."""

    def gather(self, value):
        return [value, value and ["the other's", []]] if self.is_main else []

    def broadcast(self, value):
        return value

    def largest(self, value):
        return value


@pytest.mark.parametrize("rank", [0, 1])
def test_each_rank_does_its_share_and_the_first_keeps_what_all_did(rank):
    runtime = TwoRanks(rank, 2, torch.device("cpu"), Console(), None)
    work = Pair(runtime)
    work_through(work, None, runtime)
    kept = [f"kept {piece} and the other's" for piece in ("first", "second")]
    assert work.done == [["first", kept[0], "second", kept[1], "closed"], ["first", "second", "closed"]][rank]


def test_pieces_are_closed_where_one_fails():
    work = Pair(RUNTIME)
    work.do = lambda piece: (_ for _ in ()).throw(KeyError(piece))
    with pytest.raises(KeyError, match="first") as caught:
        work_through(work, None, RUNTIME)
    assert work.done == ["closed"] and caught.tb, "closed while the error is still being handled"
