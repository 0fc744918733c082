"""Generation against position: at each one the text so far is the prompt, what follows it the reference."""

from argparse import Namespace

from data.arguments import load_corpus
from data.corpus import Corpus
from data.tokenization import encode_text, unknown_token
from scripts.generation import SCRIPT
from scripts.generation.generator import Generator
from scripts.generation.positions import PositionGenerator
from scripts.generation.report import summarise
from scripts.harness.journal import ExampleJournal
from scripts.harness.model import RunnableModel, is_sharded, load_model
from utils.errors import UserError
from utils.progress import ExampleProgress
from utils.ranks.runtime import Runtime, describe_device, peak_memory
from utils.ranks.steps import work_through
from utils.trials.trial import Trial
from utils.utils import describe_run


def experiment(trial: Trial | None, arguments: Namespace, runtime: Runtime) -> dict | None:
    """Generate at the positions of every document; the first rank gets the results."""
    journal = generate_in_corpus(trial, arguments, runtime)
    results = None
    with runtime.together():
        if runtime.is_main:
            results = summarise(journal, arguments, describe_device(runtime.device))
    return results


def generate_in_corpus(trial: Trial | None, arguments: Namespace, runtime: Runtime) -> ExampleJournal | None:
    """Generate what the trial does not hold yet, step by step over all ranks; rank 0 keeps the journal."""
    with runtime.together():
        corpus = load_corpus(arguments)
    model = load_model(arguments, runtime)
    config = describe_run(SCRIPT, arguments, runtime, model.identity, model.lambda_attention, corpus.name, len(corpus))
    journal = None
    with runtime.together():
        if runtime.is_main:
            trial.begin(config)
            journal = ExampleJournal(trial)
    done = set(runtime.broadcast(sorted(journal.done) if journal else None))
    runtime.console.say(f"{model.identity['name']} on {config['device']}, {len(corpus)} documents of {corpus.name}")

    engine = model.place(model.model)
    with runtime.together():
        generate = make_generate(corpus, model, arguments, runtime)
    progress = ExampleProgress(runtime.console, len(corpus), len(done), memory=lambda: peak_memory(runtime.device))
    work_through(
        [place for place in range(len(corpus)) if arguments.start_data_from + place not in done],
        runtime,
        arguments.batch_size,
        work=generate,
        commit=lambda gathered, seconds: commit(gathered, seconds, journal, progress),
    )
    del engine  # it holds the shards together, and must live until here
    return journal


def make_generate(corpus: Corpus, model: RunnableModel, arguments: Namespace, runtime: Runtime):
    """A function from places in the corpus to the lines of samples.jsonl of the documents there."""
    synced = runtime.world_size > 1 and is_sharded(arguments, runtime)
    generator = Generator(model.model, model.tokenizer, arguments, runtime.device, synced=synced)
    positions = PositionGenerator(generator, arguments)

    def encode(document) -> list[int]:
        ids = encode_text(model.tokenizer, document.text, arguments.max_length, arguments.truncation_side).input_ids
        refusal = unknown_token(model.tokenizer, ids, model.identity["vocab_size"], f"document {document.id!r}")
        if refusal:
            raise UserError(refusal)
        return ids

    def generate(places: list[int]) -> dict:
        with runtime.together():
            documents = [corpus[place] for place in places]
            texts = [encode(document) for document in documents]
        found = positions.lines(texts, [document.index for document in documents])
        lines = [
            {
                "index": documents[row].index,
                "id": documents[row].id,
                "parts": sum(other == row for other, _ in found),
                **line,
            }
            for row, line in found
        ]
        return {"lines": lines, "documents": len(places), "peak_memory": peak_memory(runtime.device)}

    return generate


def commit(gathered: list[dict], seconds: float, journal: ExampleJournal, progress: ExampleProgress) -> None:
    """Keep what all ranks generated in a step of `seconds`."""
    lines = [line for rank in gathered for line in rank["lines"]]
    journal.commit(lines, seconds, max(rank["peak_memory"] for rank in gathered))
    progress.advance(sum(rank["documents"] for rank in gathered))
