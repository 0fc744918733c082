"""Perplexity of documents: the NLL of every token but the first."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.arguments import CorpusPlan, Truncation, load_corpus
from data.corpus import Corpus
from data.sources.files import words_on_unread
from models.attention.config import Method
from scripts.harness.documents import DocumentWork
from scripts.harness.experiment import Experiment, Results
from scripts.harness.model import RunnableModel, load_model
from scripts.harness.model_arguments import ModelPlan
from scripts.harness.prefill import Prefill, choose_prefill
from scripts.harness.prefill_arguments import PrefillPlan
from scripts.harness.skipping import Skips, refuse_nothing_left
from scripts.perplexity import SCRIPT
from scripts.perplexity.journal import NllJournal
from scripts.perplexity.nll_file import DocumentNllFile
from scripts.perplexity.reading import ChunkReader
from scripts.perplexity.report import describe, summarise
from scripts.perplexity.scorer import DocumentScorer, ScoredDocument
from utils.errors import UserError
from utils.progress import DocumentTokens
from utils.ranks.runtime import Runtime, describe_device
from utils.trials.trial import Trial


@dataclass(frozen=True)
class Perplexity(Experiment):
    """The NLL of a model over a corpus, by position. document_mean: see `report.summarise`. strict_data: whether a
    document without a text ends the run.
    """

    model: ModelPlan
    corpus: CorpusPlan
    truncation: Truncation
    batch_size: int
    reading: PrefillPlan
    document_mean: bool = False
    strict_data: bool = False

    script = SCRIPT

    def open(self, runtime: Runtime) -> "Scoring":
        with runtime.together():
            corpus = load_corpus(self.corpus, self.strict_data)
        model = load_model(self.model, runtime)
        prefill = choose_prefill(self.reading, model, self.model, self.batch_size, runtime, fills_cache=False)
        return Scoring(self, corpus, model, prefill, runtime)

    def describe(self, results: Results) -> str:
        return describe(results)

    def tidy(self, log_dir: Path) -> None:
        DocumentNllFile(log_dir).remove()


class Scoring(DocumentWork):
    """Scores a corpus, document by document."""

    def __init__(
        self, plan: Perplexity, corpus: Corpus, model: RunnableModel, prefill: Prefill, runtime: Runtime
    ) -> None:
        super().__init__(runtime, model, corpus, corpus.name, plan.corpus.start_data_from, plan.batch_size)
        self.plan, self.prefill = plan, prefill
        self.announcement += prefill.announcement(plan.truncation.max_length) + words_on_unread(corpus.unread)

    def read_journal(self, trial: Trial) -> NllJournal:
        return NllJournal(trial)

    def resume(self, trial: Trial | None, log_dir: Path) -> None:
        super().resume(trial, log_dir)
        amount = DocumentTokens(
            documents=self.count,
            done_documents=len(self.done),
            done_tokens=self.journal.statistics.tokens if self.journal else 0,
            longest=self.plan.truncation.max_length,
        )
        self.progress = self.show_progress(amount, nll="nll")
        self.skips = Skips(self.runtime.console, self.plan.strict_data)
        reader = ChunkReader(self.model, self.prefill, self.runtime)
        self.scorer = DocumentScorer(reader, self.model, self.plan.truncation, self.runtime, self.progress)

    def do(self, piece: list[int]) -> dict[str, Any]:
        with self.runtime.together():
            documents = self.read(piece)
        scored = [document.to_json() for document in self.scorer.score(documents)]
        return {"scored": scored if self.runtime.keeps else [], "peak_memory": self.peak_memory()}

    def keep(self, gathered: list[dict[str, Any]], seconds: float) -> None:
        """Keep what could be scored; then raise the first document's error, if any."""
        documents = [ScoredDocument.from_json(value) for rank in gathered for value in rank["scored"]]
        documents.sort(key=lambda document: document.sample["index"])
        scored = [document for document in documents if document.scored]
        self.journal.commit(scored, seconds, max(rank["peak_memory"] for rank in gathered))
        tokens = sum(document.sample["scored"] for document in scored)
        mean = self.journal.statistics.mean() if self.journal.samples else None
        self.progress.end_step(tokens, len(documents), mean)
        self.skips.add([document.skip for document in documents if document.skip is not None])
        for document in documents:
            if document.error is not None:
                raise UserError(document.error)

    def results(self) -> Results:
        refuse_nothing_left(self.journal.samples, self.corpus_name)
        check_text_reaches_past_global_branch(self.journal, self.plan.model.attention)
        self.journal.fold()
        results = summarise(self.journal, describe_device(self.runtime.device), self.plan.document_mean)
        return results | self.skips.results()


def check_text_reaches_past_global_branch(journal: NllJournal, attention: Method | None) -> None:
    """Refuse results in which Λ-attention was full attention because every token was global."""
    longest = max(sample["tokens"] for sample in journal.samples)
    if attention is not None and attention.global_branch >= longest:
        raise UserError(
            f"--global_branch {attention.global_branch} is not smaller than the longest text ({longest} "
            "tokens), so Λ-attention was full attention: give a smaller one, or longer texts"
        )
