"""Downstream tasks: putting examples to the model, and scoring what it answers."""

from argparse import Namespace
from collections.abc import Callable

from data.tasks.prompt import PromptEncoder
from data.tasks.registry import get_task
from data.tasks.task import Selection, Task, open_examples
from scripts.downstream import SCRIPT
from scripts.downstream.arguments import task_request
from scripts.downstream.report import summarise
from scripts.downstream.runner import TaskRunner
from scripts.generation.generator import Generator
from scripts.harness.journal import ExampleJournal
from scripts.harness.model import RunnableModel, is_sharded, load_model
from utils.progress import ExampleProgress
from utils.ranks.runtime import Runtime, describe_device, peak_memory
from utils.ranks.steps import work_through
from utils.trials.trial import Trial
from utils.utils import describe_run


def experiment(trial: Trial | None, arguments: Namespace, runtime: Runtime) -> dict | None:
    """Put the examples of the task to the model; the first rank gets the results."""
    with runtime.together():
        task = get_task(arguments.dataset, arguments.dataset_group)
    journal, results = answer(task, trial, arguments, runtime), None
    with runtime.together():
        if runtime.is_main:
            results = summarise(journal, task, arguments, describe_device(runtime.device))
    return results


def answer(task: Task, trial: Trial | None, arguments: Namespace, runtime: Runtime) -> ExampleJournal | None:
    """Answer what the trial does not hold yet, step by step over all ranks; rank 0 keeps the journal."""
    model = load_model(arguments, runtime)
    with runtime.together():
        runner = make_runner(task, model, arguments, runtime)
        request = task_request(arguments, runner.encoder.count)
        examples = open_examples(task, request, arguments.start_data_from, arguments.max_data_num)
    config = describe_run(SCRIPT, arguments, runtime, model.identity, model.lambda_attention, task.name, len(examples))
    journal = None
    with runtime.together():
        if runtime.is_main:
            trial.begin(config)
            journal = ExampleJournal(trial)
    done = set(runtime.broadcast(sorted(journal.done) if journal else None))
    runtime.console.say(f"{model.identity['name']} on {config['device']}, {len(examples)} examples of {task.name}")

    engine = model.place(model.model)
    progress = ExampleProgress(runtime.console, len(examples), len(done), memory=lambda: peak_memory(runtime.device))
    work_through(
        [place for place in range(len(examples)) if arguments.start_data_from + place not in done],
        runtime,
        arguments.batch_size,
        work=lambda places: run(places, examples, runner, runtime),
        commit=lambda gathered, seconds: commit(gathered, seconds, journal, progress, say_each(arguments, runtime)),
    )
    del engine  # it holds the shards together, and must live until here
    return journal


def make_runner(task: Task, model: RunnableModel, arguments: Namespace, runtime: Runtime) -> TaskRunner:
    """The task's prompts, generation length and stop strings, with what the flags say besides."""
    structured = arguments.structured_prompt or (task.structured and not arguments.apply_chat_template)
    encoder = PromptEncoder(model.tokenizer, structured, arguments.apply_chat_template)
    length = arguments.max_generation_length or task.max_generation_length
    options = Namespace(**{**vars(arguments), "max_generation_length": length})
    synced = runtime.world_size > 1 and is_sharded(arguments, runtime)
    generator = Generator(model.model, model.tokenizer, options, runtime.device, task.stop, synced)
    return TaskRunner(task, encoder, generator, arguments, model.identity["vocab_size"])


def run(places: list[int], examples: Selection, runner: TaskRunner, runtime: Runtime) -> dict:
    """Answer this rank's examples of one step."""
    with runtime.together():
        asked = [examples[place] for place in places]
        prompts = [runner.prompt(example) for example in asked]
    return {"lines": runner.lines(asked, prompts), "peak_memory": peak_memory(runtime.device)}


def say_each(arguments: Namespace, runtime: Runtime) -> Callable[[dict], None]:
    """What shows an example: nothing with --silent."""

    def show(line: dict) -> None:
        outcome = line["error"] or f"{line['score']:.2f} for {line['output'].strip()!r}, wanted {line['targets']!r}"
        runtime.console.say(f"{line['id']} ({line['length']:,} tokens): {outcome}")

    return (lambda line: None) if arguments.silent else show


def commit(
    gathered: list[dict],
    seconds: float,
    journal: ExampleJournal,
    progress: ExampleProgress,
    show: Callable[[dict], None],
) -> None:
    """Keep what all ranks answered in a step of `seconds`."""
    lines = [line for rank in gathered for line in rank["lines"]]
    journal.commit(lines, seconds, max(rank["peak_memory"] for rank in gathered))
    for line in lines:
        show(line)
    progress.advance(len(lines))
