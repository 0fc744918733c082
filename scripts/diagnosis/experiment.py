"""A diagnosis of attention: measuring documents, and adding them up."""

from argparse import Namespace
from typing import Any

from data.arguments import load_corpus
from data.corpus import Corpus
from models.diagnosis.diagnosed_model import DiagnosedModel
from models.diagnosis.layers import attention_modules
from models.diagnosis.plan import Plan, even_edges, spread_positions
from scripts.diagnosis import SCRIPT
from scripts.diagnosis.documents import DocumentDiagnosis, first_error, measured_lines
from scripts.diagnosis.journal import DiagnosisJournal
from scripts.diagnosis.report import summarise
from scripts.diagnosis.summary import summarise_documents
from scripts.harness.model import RunnableModel, is_sharded, load_model
from utils.errors import SharedError, UserError
from utils.progress import DiagnosisProgress, Progress
from utils.ranks.runtime import Runtime, describe_device, peak_memory
from utils.ranks.steps import work_through
from utils.trials.trial import STREAM_ARRAYS, Trial
from utils.utils import describe_run


def experiment(trial: Trial | None, arguments: Namespace, runtime: Runtime) -> dict | None:
    """Measure the corpus; the first rank gets its results."""
    with runtime.together():
        corpus = load_corpus(arguments)
    model = load_model(arguments, runtime)
    layers = choose_layers(model, arguments)
    plan = make_plan(arguments)
    journal = measure_corpus(trial, corpus, model, layers, plan, arguments, runtime)
    results = None
    with runtime.together():
        if runtime.is_main:
            results = finish(journal, model, layers, plan, runtime)
    return results


def choose_layers(model: RunnableModel, arguments: Namespace) -> list[int]:
    """The layers to measure. Raises SharedError for a model whose attention is not known, and for a missing layer."""
    count = len(attention_modules(model.model))
    layers = list(range(count)) if arguments.layers is None else arguments.layers
    if layers[-1] >= count:
        raise SharedError(f"--layers {layers[-1]}: this model has the layers 0 to {count - 1}, choose among them")
    return layers


def make_plan(arguments: Namespace) -> Plan:
    """What is measured of each document."""
    return Plan(
        num_queries=arguments.num_queries,
        distance_edges=even_edges(arguments.max_length, arguments.num_bins),
        positions=spread_positions(arguments.max_length, arguments.num_positions),
        first_tokens=arguments.first_tokens,
        window=arguments.window,
        num_hidden=arguments.num_hidden,
    )


def measure_corpus(
    trial: Trial | None,
    corpus: Corpus,
    model: RunnableModel,
    layers: list[int],
    plan: Plan,
    arguments: Namespace,
    runtime: Runtime,
) -> DiagnosisJournal | None:
    """Measure what the trial does not hold yet, step by step over all ranks; rank 0 keeps the journal."""
    config = describe_run(SCRIPT, arguments, runtime, model.identity, model.lambda_attention, corpus.name, len(corpus))
    journal = None
    with runtime.together():
        if runtime.is_main:
            trial.begin(config)
            journal = DiagnosisJournal(trial)
    done = set(runtime.broadcast(journal.done if journal else None))
    runtime.console.say(
        f"{model.identity['name']} on {config['device']}, {len(corpus)} documents of {corpus.name}, "
        f"{len(layers)} layers"
    )
    progress = DiagnosisProgress(
        runtime.console,
        documents=len(corpus),
        done_documents=len(done),
        done_tokens=journal.tokens if journal else 0,
        longest=arguments.max_length,
        memory=lambda: peak_memory(runtime.device),
    )
    diagnosed = model.place(DiagnosedModel(model.model, plan, layers, at_once=is_sharded(arguments, runtime)))
    vocab_size = model.identity["vocab_size"]
    diagnosis = DocumentDiagnosis(diagnosed, model.tokenizer, vocab_size, arguments, runtime, progress)
    left = [place for place in range(len(corpus)) if arguments.start_data_from + place not in done]
    work_through(
        left,
        runtime,
        arguments.batch_size,
        work=lambda places: measure(places, corpus, diagnosis, runtime),
        commit=lambda gathered, seconds: commit(gathered, seconds, journal, progress),
    )
    return journal


def measure(places: list[int], corpus: Corpus, diagnosis: DocumentDiagnosis, runtime: Runtime) -> dict[str, Any]:
    """Measure this rank's documents of one step."""
    with runtime.together():
        documents = [corpus[place] for place in places]
    return {"lines": diagnosis.measure(documents), "peak_memory": peak_memory(runtime.device)}


def commit(gathered: list[dict], seconds: float, journal: DiagnosisJournal, progress: Progress) -> None:
    """Keep what all ranks measured in a step of `seconds`; then raise the first document's error, if any."""
    lines = [line for rank in gathered for line in rank["lines"]]
    measured = measured_lines(lines)
    journal.commit(measured, seconds, max(rank["peak_memory"] for rank in gathered))
    progress.end_step(sum(line["tokens"] for line in measured), len(measured), None)
    error = first_error(lines)
    if error is not None:
        raise UserError(error)


def finish(
    journal: DiagnosisJournal, model: RunnableModel, layers: list[int], plan: Plan, runtime: Runtime
) -> dict[str, Any]:
    """Add the documents up, write stats.npz, and return the headline numbers."""
    arrays = summarise_documents(journal.files, journal.done, plan, layers)
    journal.trial.replace_arrays(arrays, STREAM_ARRAYS)
    return summarise(journal, arrays, model.identity["pretraining_length"], describe_device(runtime.device))
