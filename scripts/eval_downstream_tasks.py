"""Downstream tasks: prompts with an answer hidden somewhere, generation, and a score against reference answers.

deepspeed scripts/eval_downstream_tasks.py --use_lambda_attention --dataset passkey_retrieval --max_length 16384
"""

import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.arguments import HarnessParser, add_lambda_arguments, add_model_arguments, add_run_arguments
from utils.generation_arguments import add_generation_arguments
from utils.methods import add_method_arguments
from utils.program import run_main
from utils.task_arguments import add_task_arguments, task_request

if TYPE_CHECKING:
    from data.tasks.task import Selection, Task
    from utils.example_journal import ExampleJournal
    from utils.model_loading import RunnableModel
    from utils.progress import ExampleProgress
    from utils.ranks.runtime import Runtime
    from utils.task_running import TaskRunner
    from utils.trials.trial import Trial

SCRIPT = "eval_downstream_tasks"


def parse_arguments() -> Namespace:
    """The command line, checked."""
    parser = HarnessParser(__doc__.splitlines()[0])
    add_model_arguments(parser)
    add_method_arguments(parser, SCRIPT)
    add_lambda_arguments(parser)
    add_task_arguments(parser)
    add_generation_arguments(parser, max_generation_length=None)
    add_run_arguments(parser, log_dir=f"logs/{SCRIPT}")
    return parser.parse_args()


def main() -> None:
    """Answer what is not answered yet, then write and show the results."""
    arguments = parse_arguments()
    # torch and Transformers take seconds to import: not for a wrong flag
    from utils.evaluation import evaluate
    from utils.task_report import describe

    evaluate(SCRIPT, arguments, experiment, describe)


def experiment(trial: "Trial | None", arguments: Namespace, runtime: "Runtime") -> dict | None:
    """Put the examples of the task to the model; the first rank gets the results."""
    from data.tasks.registry import get_task
    from utils.ranks.runtime import describe_device
    from utils.task_report import summarise

    task = runtime.together(lambda: get_task(arguments.dataset, arguments.dataset_group))
    journal = answer(task, trial, arguments, runtime)
    return runtime.on_main(lambda: summarise(journal, task, arguments, describe_device(runtime.device)))


def answer(task: "Task", trial: "Trial | None", arguments: Namespace, runtime: "Runtime") -> "ExampleJournal | None":
    """Answer what the trial does not hold yet, step by step over all ranks; rank 0 keeps the journal."""
    from data.tasks.task import open_examples
    from utils.example_journal import ExampleJournal
    from utils.model_loading import load_model
    from utils.progress import ExampleProgress
    from utils.ranks.runtime import peak_memory
    from utils.ranks.steps import work_through
    from utils.utils import describe_run

    model = load_model(arguments, runtime)
    runner = runtime.together(lambda: make_runner(task, model, arguments, runtime))
    request = task_request(arguments, runner.encoder.count)
    examples = runtime.together(lambda: open_examples(task, request, arguments.start_data_from, arguments.max_data_num))
    config = describe_run(SCRIPT, arguments, runtime, model, task.name, len(examples))
    runtime.on_main(lambda: trial.begin(config))
    journal = runtime.on_main(lambda: ExampleJournal(trial))
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


def make_runner(task: "Task", model: "RunnableModel", arguments: Namespace, runtime: "Runtime") -> "TaskRunner":
    """The task's prompts, generation length and stop strings, with what the flags say besides."""
    from data.tasks.prompt import PromptEncoder
    from utils.generation import Generator
    from utils.model_loading import is_sharded
    from utils.task_running import TaskRunner

    structured = arguments.structured_prompt or (task.structured and not arguments.apply_chat_template)
    encoder = PromptEncoder(model.tokenizer, structured, arguments.apply_chat_template)
    length = arguments.max_generation_length or task.max_generation_length
    options = Namespace(**{**vars(arguments), "max_generation_length": length})
    synced = runtime.world_size > 1 and is_sharded(arguments, runtime)
    generator = Generator(model.model, model.tokenizer, options, runtime.device, task.stop, synced)
    return TaskRunner(task, encoder, generator, arguments, model.identity["vocab_size"])


def run(places: list[int], examples: "Selection", runner: "TaskRunner", runtime: "Runtime") -> dict:
    """Answer this rank's examples of one step."""
    from utils.ranks.runtime import peak_memory

    asked = runtime.together(lambda: [examples[place] for place in places])
    prompts = runtime.together(lambda: [runner.prompt(example) for example in asked])
    return {"lines": runner.lines(asked, prompts), "peak_memory": peak_memory(runtime.device)}


def say_each(arguments: Namespace, runtime: "Runtime") -> Callable[[dict], None]:
    """What shows an example: nothing with --silent."""

    def show(line: dict) -> None:
        outcome = line["error"] or f"{line['score']:.2f} for {line['output'].strip()!r}, wanted {line['targets']!r}"
        runtime.console.say(f"{line['id']} ({line['length']:,} tokens): {outcome}")

    return (lambda line: None) if arguments.silent else show


def commit(
    gathered: list[dict],
    seconds: float,
    journal: "ExampleJournal",
    progress: "ExampleProgress",
    show: Callable[[dict], None],
) -> None:
    """Keep what all ranks answered in a step of `seconds`."""
    lines = [line for rank in gathered for line in rank["lines"]]
    journal.commit(lines, seconds, max(rank["peak_memory"] for rank in gathered))
    for line in lines:
        show(line)
    progress.advance(len(lines))


if __name__ == "__main__":
    run_main(main, resumes=True)
