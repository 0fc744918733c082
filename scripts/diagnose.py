"""Why a model fails at length, or does not: its attention logits, their entropy, and where the first tokens live.

deepspeed scripts/diagnose.py --model smollm2 --dataset plays --max_data_num 2 --max_length 16384
"""

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.arguments import add_data_arguments, add_document_arguments, load_corpus
from utils.arguments import HarnessParser, add_lambda_arguments, add_model_arguments, add_run_arguments
from utils.diagnosis_arguments import add_diagnosis_arguments
from utils.errors import SharedError, UserError
from utils.methods import add_method_arguments
from utils.program import run_main

if TYPE_CHECKING:
    from data.corpus import Corpus
    from models.diagnosis.plan import Plan
    from utils.diagnosis_documents import DocumentDiagnosis
    from utils.diagnosis_journal import DiagnosisJournal
    from utils.model_loading import RunnableModel
    from utils.progress import Progress
    from utils.ranks.runtime import Runtime
    from utils.trials.trial import Trial

SCRIPT = "diagnose"


def parse_arguments() -> Namespace:
    """The command line, checked."""
    parser = HarnessParser(__doc__.splitlines()[0])
    add_model_arguments(parser)
    add_method_arguments(parser, SCRIPT)
    add_lambda_arguments(parser)
    add_data_arguments(parser)
    add_document_arguments(parser)
    add_diagnosis_arguments(parser)
    add_run_arguments(parser, log_dir=f"logs/{SCRIPT}")
    return parser.parse_args()


def main() -> None:
    """Measure what is not measured yet, then write and show the results."""
    arguments = parse_arguments()
    # torch and Transformers take seconds to import: not for a wrong flag
    from utils.diagnosis_documents import DocumentFiles
    from utils.diagnosis_report import describe
    from utils.evaluation import evaluate

    evaluate(SCRIPT, arguments, experiment, describe, tidy=lambda trial: DocumentFiles(trial.folder).remove_all())


def experiment(trial: "Trial | None", arguments: Namespace, runtime: "Runtime") -> dict | None:
    """Measure the corpus; the first rank gets its results."""
    from utils.model_loading import load_model

    corpus = runtime.together(lambda: load_corpus(arguments))
    model = load_model(arguments, runtime)
    layers = choose_layers(model, arguments)
    plan = make_plan(arguments)
    journal = measure_corpus(trial, corpus, model, layers, plan, arguments, runtime)
    return runtime.on_main(lambda: finish(journal, model, layers, plan, runtime))


def choose_layers(model: "RunnableModel", arguments: Namespace) -> list[int]:
    """The layers to measure. Raises SharedError for a model whose attention is not known, and for a missing layer."""
    from models.diagnosis.layers import attention_modules

    count = len(attention_modules(model.model))
    layers = list(range(count)) if arguments.layers is None else arguments.layers
    if layers[-1] >= count:
        raise SharedError(f"--layers {layers[-1]}: this model has the layers 0 to {count - 1}, choose among them")
    return layers


def make_plan(arguments: Namespace) -> "Plan":
    """What is measured of each document."""
    from models.diagnosis.plan import Plan, even_edges, spread_positions

    return Plan(
        num_queries=arguments.num_queries,
        distance_edges=even_edges(arguments.max_length, arguments.num_bins),
        positions=spread_positions(arguments.max_length, arguments.num_positions),
        first_tokens=arguments.first_tokens,
        window=arguments.window,
        num_hidden=arguments.num_hidden,
    )


def measure_corpus(
    trial: "Trial | None",
    corpus: "Corpus",
    model: "RunnableModel",
    layers: list[int],
    plan: "Plan",
    arguments: Namespace,
    runtime: "Runtime",
) -> "DiagnosisJournal | None":
    """Measure what the trial does not hold yet, step by step over all ranks; rank 0 keeps the journal."""
    from models.diagnosis.diagnosed_model import DiagnosedModel
    from utils.diagnosis_documents import DocumentDiagnosis
    from utils.diagnosis_journal import DiagnosisJournal
    from utils.model_loading import is_sharded
    from utils.progress import DiagnosisProgress
    from utils.ranks.runtime import peak_memory
    from utils.ranks.steps import work_through
    from utils.utils import describe_run

    config = describe_run(SCRIPT, arguments, runtime, model, corpus.name, len(corpus))
    runtime.on_main(lambda: trial.begin(config))
    journal = runtime.on_main(lambda: DiagnosisJournal(trial))
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


def measure(places: list[int], corpus: "Corpus", diagnosis: "DocumentDiagnosis", runtime: "Runtime") -> dict[str, Any]:
    """Measure this rank's documents of one step."""
    from utils.ranks.runtime import peak_memory

    documents = runtime.together(lambda: [corpus[place] for place in places])
    return {"lines": diagnosis.measure(documents), "peak_memory": peak_memory(runtime.device)}


def commit(gathered: list[dict], seconds: float, journal: "DiagnosisJournal", progress: "Progress") -> None:
    """Keep what all ranks measured in a step of `seconds`; then raise the first document's error, if any."""
    from utils.diagnosis_documents import first_error, measured_lines

    lines = [line for rank in gathered for line in rank["lines"]]
    measured = measured_lines(lines)
    journal.commit(measured, seconds, max(rank["peak_memory"] for rank in gathered))
    progress.end_step(sum(line["tokens"] for line in measured), len(measured), None)
    error = first_error(lines)
    if error is not None:
        raise UserError(error)


def finish(
    journal: "DiagnosisJournal", model: "RunnableModel", layers: list[int], plan: "Plan", runtime: "Runtime"
) -> dict[str, Any]:
    """Add the documents up, write stats.npz, and return the headline numbers."""
    from utils.diagnosis_report import summarise
    from utils.diagnosis_summary import summarise_documents
    from utils.ranks.runtime import describe_device
    from utils.trials.trial import STREAM_ARRAYS

    arrays = summarise_documents(journal.files, journal.done, plan, layers)
    journal.trial.replace_arrays(arrays, STREAM_ARRAYS)
    return summarise(journal, arrays, model.identity["pretraining_length"], describe_device(runtime.device))


if __name__ == "__main__":
    run_main(main, resumes=True)
