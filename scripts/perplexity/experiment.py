"""Perplexity of documents: the NLL of every token but the first, one forward per document."""

from argparse import Namespace

from data.arguments import load_corpus
from data.get_data import Corpus
from models.scoring.nll_scorer import NllScorer
from scripts.harness.model import load_model
from scripts.perplexity import SCRIPT
from scripts.perplexity.journal import NllJournal
from scripts.perplexity.report import summarise
from scripts.perplexity.scorer import DocumentScorer, ScoredDocument
from utils.errors import UserError
from utils.progress import Progress
from utils.ranks.runtime import Runtime, describe_device, peak_memory
from utils.ranks.steps import work_through
from utils.trials.trial import Trial
from utils.utils import describe_run


def experiment(trial: Trial | None, arguments: Namespace, runtime: Runtime) -> dict | None:
    """Score the corpus; the first rank gets its results."""
    journal = score_corpus(trial, arguments, runtime)
    results = None
    with runtime.together():
        if runtime.is_main:
            check_text_reaches_past_global_branch(journal, arguments)
            results = summarise(journal, describe_device(runtime.device))
    return results


def score_corpus(trial: Trial | None, arguments: Namespace, runtime: Runtime) -> NllJournal | None:
    """Score what the trial does not hold yet, step by step over all ranks; rank 0 keeps the journal."""
    with runtime.together():
        corpus = load_corpus(arguments)
    model = load_model(arguments, runtime)
    config = describe_run(SCRIPT, arguments, runtime, model.identity, model.lambda_attention, corpus.name, len(corpus))
    journal = None
    with runtime.together():
        if runtime.is_main:
            trial.begin(config)
            journal = NllJournal(trial)
    done = set(runtime.broadcast([sample["index"] for sample in journal.samples] if journal else None))
    runtime.console.say(f"{model.identity['name']} on {config['device']}, {len(corpus)} documents of {corpus.name}")

    scorer = model.place(NllScorer(model.model))
    progress = Progress(
        runtime.console,
        documents=len(corpus),
        done_documents=len(done),
        done_tokens=journal.statistics.tokens if journal else 0,
        longest=arguments.max_length,
        memory=lambda: peak_memory(runtime.device),
    )
    vocab_size = model.identity["vocab_size"]
    document_scorer = DocumentScorer(scorer, model.tokenizer, vocab_size, arguments, runtime, progress)
    left = [place for place in range(len(corpus)) if arguments.start_data_from + place not in done]
    work_through(
        left,
        runtime,
        arguments.batch_size,
        work=lambda places: score(places, corpus, document_scorer, runtime),
        commit=lambda gathered, seconds: commit(gathered, seconds, journal, progress),
    )
    return journal


def score(places: list[int], corpus: Corpus, scorer: DocumentScorer, runtime: Runtime) -> dict:
    """Score this rank's documents of one step."""
    with runtime.together():
        documents = [corpus[place] for place in places]
    scored = [document.to_json() for document in scorer.score(documents)]
    return {"scored": scored, "peak_memory": peak_memory(runtime.device)}


def commit(gathered: list[dict], seconds: float, journal: NllJournal, progress: Progress) -> None:
    """Keep what all ranks scored in a step of `seconds`; then raise the first document's error, if any."""
    documents = [ScoredDocument.from_json(value) for rank in gathered for value in rank["scored"]]
    documents.sort(key=lambda document: document.sample["index"])
    scored = [document for document in documents if document.error is None]
    journal.commit(scored, seconds, max(rank["peak_memory"] for rank in gathered))
    tokens = sum(document.sample["scored"] for document in scored)
    progress.end_step(tokens, len(scored), journal.statistics.mean())
    for document in documents:
        if document.error is not None:
            raise UserError(document.error)


def check_text_reaches_past_global_branch(journal: NllJournal, arguments: Namespace) -> None:
    """Refuse results in which Λ-attention was full attention because every token was global."""
    longest = max(sample["tokens"] for sample in journal.samples)
    if arguments.use_lambda_attention and arguments.global_branch >= longest:
        raise UserError(
            f"--global_branch {arguments.global_branch} is not smaller than the longest text ({longest} "
            "tokens), so Λ-attention was full attention: give a smaller one, or longer texts"
        )
