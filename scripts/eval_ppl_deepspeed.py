"""Perplexity against position: the NLL of every token but the first, one forward per document.

deepspeed scripts/eval_ppl_deepspeed.py --use_lambda_attention --dataset plays --max_length 16384
"""

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.arguments import add_data_arguments, add_document_arguments, load_corpus
from utils.arguments import HarnessParser, add_lambda_arguments, add_model_arguments, add_run_arguments
from utils.errors import UserError
from utils.methods import add_method_arguments
from utils.program import run_main

if TYPE_CHECKING:
    from data.get_data import Corpus
    from utils.document_scoring import DocumentScorer
    from utils.nll_journal import NllJournal
    from utils.progress import Progress
    from utils.ranks.runtime import Runtime
    from utils.trials.trial import Trial

SCRIPT = "eval_ppl_deepspeed"


def parse_arguments() -> Namespace:
    """The command line, checked."""
    parser = HarnessParser(__doc__.splitlines()[0])
    add_model_arguments(parser)
    add_method_arguments(parser, SCRIPT)
    add_lambda_arguments(parser)
    add_data_arguments(parser)
    add_document_arguments(parser)
    add_run_arguments(parser, log_dir=f"logs/{SCRIPT}")
    return parser.parse_args()


def main() -> None:
    """Score what is not scored yet, then write and show the results."""
    arguments = parse_arguments()
    # torch and Transformers take seconds to import: not for a wrong flag
    from utils.evaluation import evaluate
    from utils.nll_report import describe

    evaluate(SCRIPT, arguments, experiment, describe)


def experiment(trial: "Trial | None", arguments: Namespace, runtime: "Runtime") -> dict | None:
    """Score the corpus; the first rank gets its results."""
    from utils.nll_report import summarise
    from utils.ranks.runtime import describe_device

    journal = score_corpus(trial, arguments, runtime)
    runtime.on_main(lambda: check_text_reaches_past_global_branch(journal, arguments))
    return runtime.on_main(lambda: summarise(journal, describe_device(runtime.device)))


def score_corpus(trial: "Trial | None", arguments: Namespace, runtime: "Runtime") -> "NllJournal | None":
    """Score what the trial does not hold yet, step by step over all ranks; rank 0 keeps the journal."""
    from models.scoring.nll_scorer import NllScorer
    from utils.document_scoring import DocumentScorer
    from utils.model_loading import load_model
    from utils.nll_journal import NllJournal
    from utils.progress import Progress
    from utils.ranks.runtime import peak_memory
    from utils.ranks.steps import work_through
    from utils.utils import describe_run

    corpus = runtime.together(lambda: load_corpus(arguments))
    model = load_model(arguments, runtime)
    config = describe_run(SCRIPT, arguments, runtime, model, corpus.name, len(corpus))
    runtime.on_main(lambda: trial.begin(config))
    journal = runtime.on_main(lambda: NllJournal(trial))
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


def score(places: list[int], corpus: "Corpus", scorer: "DocumentScorer", runtime: "Runtime") -> dict:
    """Score this rank's documents of one step."""
    from utils.ranks.runtime import peak_memory

    documents = runtime.together(lambda: [corpus[place] for place in places])
    scored = [document.to_json() for document in scorer.score(documents)]
    return {"scored": scored, "peak_memory": peak_memory(runtime.device)}


def commit(gathered: list[dict], seconds: float, journal: "NllJournal", progress: "Progress") -> None:
    """Keep what all ranks scored in a step of `seconds`; then raise the first document's error, if any."""
    from utils.document_scoring import ScoredDocument

    documents = [ScoredDocument.from_json(value) for rank in gathered for value in rank["scored"]]
    documents.sort(key=lambda document: document.sample["index"])
    scored = [document for document in documents if document.error is None]
    journal.commit(scored, seconds, max(rank["peak_memory"] for rank in gathered))
    tokens = sum(document.sample["scored"] for document in scored)
    progress.end_step(tokens, len(scored), journal.statistics.mean())
    for document in documents:
        if document.error is not None:
            raise UserError(document.error)


def check_text_reaches_past_global_branch(journal: "NllJournal", arguments: Namespace) -> None:
    """Refuse results in which Λ-attention was full attention because every token was global."""
    longest = max(sample["tokens"] for sample in journal.samples)
    if arguments.use_lambda_attention and arguments.global_branch >= longest:
        raise UserError(
            f"--global_branch {arguments.global_branch} is not smaller than the longest text ({longest} "
            "tokens), so Λ-attention was full attention: give a smaller one, or longer texts"
        )


if __name__ == "__main__":
    run_main(main, resumes=True)
