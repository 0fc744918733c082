"""A diagnosis of attention: measuring documents, and adding them up."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.arguments import CorpusPlan, Truncation, load_corpus
from data.corpus import Corpus
from data.sources.files import words_on_unread
from models.diagnosis.diagnosed_model import DiagnosedModel
from models.diagnosis.layers import attention_modules
from scripts.diagnosis import SCRIPT
from scripts.diagnosis.arguments import DiagnosisPlan, measured_plan
from scripts.diagnosis.documents import DocumentDiagnosis, DocumentFiles, first_error, measured_lines, skips_among
from scripts.diagnosis.report import describe, summarise
from scripts.diagnosis.summary import summarise_documents
from scripts.harness.documents import DocumentWork
from scripts.harness.experiment import Experiment, Results
from scripts.harness.journal import Journal
from scripts.harness.model import RunnableModel, is_sharded, load_model
from scripts.harness.model_arguments import ModelPlan
from scripts.harness.skipping import Skips, refuse_nothing_left
from utils.errors import SharedError, UserError
from utils.progress import DocumentTokens
from utils.ranks.runtime import Runtime, describe_device
from utils.trials.files import STREAM_ARRAYS
from utils.trials.trial import Trial


@dataclass(frozen=True)
class Diagnosis(Experiment):
    """The attention of a model over a corpus: logits, entropy, mass and hidden states."""

    model: ModelPlan
    corpus: CorpusPlan
    truncation: Truncation
    diagnosis: DiagnosisPlan
    batch_size: int
    strict_data: bool = False

    script = SCRIPT
    every_rank_writes = True

    def open(self, runtime: Runtime) -> "Measuring":
        with runtime.together():
            corpus = load_corpus(self.corpus, self.strict_data)
        model = load_model(self.model, runtime)
        layers = choose_layers(model, self.diagnosis.layers)
        return Measuring(self, corpus, model, layers, runtime)

    def describe(self, results: Results) -> str:
        return describe(results)

    def tidy(self, log_dir: Path) -> None:
        DocumentFiles(log_dir).remove_all()


def choose_layers(model: RunnableModel, wanted: list[int] | None) -> list[int]:
    """The layers to measure: those wanted, or all. Raises SharedError for an unknown attention or a missing layer."""
    count = len(attention_modules(model.model))
    layers = list(range(count)) if wanted is None else wanted
    if layers[-1] >= count:
        raise SharedError(f"--layers {layers[-1]}: this model has the layers 0 to {count - 1}, choose among them")
    return layers


class Measuring(DocumentWork):
    """Measures a corpus, document by document, each into a file of its own."""

    def __init__(
        self, plan: Diagnosis, corpus: Corpus, model: RunnableModel, layers: list[int], runtime: Runtime
    ) -> None:
        super().__init__(runtime, model, corpus, corpus.name, plan.corpus.start_data_from, plan.batch_size)
        self.announcement += f", {len(layers)} layers{words_on_unread(corpus.unread)}"
        self.plan, self.layers = plan, layers
        self.measured = measured_plan(plan.diagnosis, plan.truncation.max_length)

    def read_journal(self, trial: Trial) -> Journal:
        return Journal(trial, DocumentFiles(trial.folder).path)

    def resume(self, trial: Trial | None, log_dir: Path) -> None:
        super().resume(trial, log_dir)
        amount = DocumentTokens(
            documents=self.count,
            done_documents=len(self.done),
            done_tokens=sum(line["tokens"] for line in self.journal.lines) if self.journal else 0,
            longest=self.plan.truncation.max_length,
        )
        self.progress = self.show_progress(amount)
        self.skips = Skips(self.runtime.console, self.plan.strict_data)
        self.files = DocumentFiles(log_dir)
        at_once = is_sharded(self.plan.model, self.runtime)
        placed = self.model.place(DiagnosedModel(self.model.model, self.measured, self.layers, at_once))
        self.diagnosis = DocumentDiagnosis(
            placed, self.model, self.plan.truncation, self.files, self.runtime, self.progress
        )

    def do(self, piece: list[int]) -> dict[str, Any]:
        with self.runtime.together():
            documents = self.read(piece)
        return {"lines": self.diagnosis.measure(documents), "peak_memory": self.peak_memory()}

    def keep(self, gathered: list[dict[str, Any]], seconds: float) -> None:
        """Keep what could be measured; then raise the first document's error, if any."""
        lines = [line for rank in gathered for line in rank["lines"]]
        measured = measured_lines(lines)
        self.journal.commit(measured, seconds, max(rank["peak_memory"] for rank in gathered))
        self.progress.end_step(sum(line["tokens"] for line in measured), len(lines))
        self.skips.add(skips_among(lines))
        error = first_error(lines)
        if error is not None:
            raise UserError(error)

    def results(self) -> Results:
        """Add the documents up, write stats.npz, and return the headline numbers."""
        refuse_nothing_left(self.journal.lines, self.corpus_name)
        arrays = summarise_documents(self.files, sorted(self.journal.done), self.measured, self.layers)
        self.journal.trial.replace_arrays(arrays, STREAM_ARRAYS)
        pretraining_length = self.model.identity["pretraining_length"]
        results = summarise(self.journal, arrays, pretraining_length, describe_device(self.runtime.device))
        return results | self.skips.results()
