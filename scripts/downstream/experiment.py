"""Downstream tasks: putting examples to the model, and scoring what it answers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.arguments import Truncation
from data.tasks.prompt import PromptEncoder
from data.tasks.registry import get_task
from data.tasks.task import Selection, Task, open_examples
from scripts.downstream import SCRIPT
from scripts.downstream.arguments import TaskPlan, task_request
from scripts.downstream.report import describe, summarise
from scripts.downstream.runner import TaskRunner
from scripts.generation.arguments import Generation
from scripts.generation.generator import Generator
from scripts.harness.documents import DocumentWork
from scripts.harness.experiment import Experiment, Results
from scripts.harness.model import RunnableModel, is_sharded, load_model
from scripts.harness.model_arguments import ModelPlan
from utils.progress import Amount
from utils.ranks.runtime import Runtime, describe_device
from utils.trials.trial import Trial


@dataclass(frozen=True)
class Downstream(Experiment):
    """A model's answers to the examples of one task. generation: of no length where the task's own counts."""

    model: ModelPlan
    task: TaskPlan
    truncation: Truncation
    generation: Generation
    batch_size: int

    script = SCRIPT

    def open(self, runtime: Runtime) -> "Answering":
        with runtime.together():
            task = get_task(self.task.dataset, self.task.dataset_group)
        model = load_model(self.model, runtime)
        with runtime.together():
            encoder = self.make_encoder(task, model)
            generator = self.make_generator(task, model, runtime)
            request = task_request(self.task, self.truncation.max_length, encoder)
            examples = open_examples(task, request, self.task.start_data_from, self.task.max_data_num)
        runner = TaskRunner(
            task, encoder, generator, self.truncation, self.task.runtime_truncation, vocab_size=model.vocab_size
        )
        return Answering(self, task, examples, runner, model, runtime)

    def make_encoder(self, task: Task, model: RunnableModel) -> PromptEncoder:
        """Prompts as the flags say, and where they are silent as the task recommends."""
        chat = self.task.apply_chat_template
        structured = self.task.structured_prompt or (task.structured and not chat)
        return PromptEncoder(model.tokenizer, structured, chat)

    def make_generator(self, task: Task, model: RunnableModel, runtime: Runtime) -> Generator:
        """Answers of the task's length, unless the flags say otherwise, and up to its stop strings."""
        generation = self.generation.or_length(task.max_generation_length)
        synced = runtime.world_size > 1 and is_sharded(self.model, runtime)
        return Generator(model.model, model.tokenizer, generation, runtime.device, task.stop, synced)

    def describe(self, results: Results) -> str:
        return describe(results)


class Answering(DocumentWork):
    """Puts the examples of a task to the model, one after the other."""

    def __init__(
        self,
        plan: Downstream,
        task: Task,
        examples: Selection,
        runner: TaskRunner,
        model: RunnableModel,
        runtime: Runtime,
    ) -> None:
        start = plan.task.start_data_from
        super().__init__(runtime, model, examples, task.name, start, plan.batch_size, kind="examples")
        self.plan, self.task, self.runner = plan.task, task, runner

    def resume(self, trial: Trial | None, log_dir: Path) -> None:
        super().resume(trial, log_dir)
        self.progress = self.show_progress(Amount(self.count, len(self.done), "examples", digits=2))
        self.engine = self.model.place(self.model.model)  # it holds the shards together, and must live

    def do(self, piece: list[int]) -> dict[str, Any]:
        with self.runtime.together():
            examples = self.read(piece)
            prompts = [self.runner.prompt(example) for example in examples]
        return {"lines": self.runner.lines(examples, prompts), "peak_memory": self.peak_memory()}

    def keep(self, gathered: list[dict[str, Any]], seconds: float) -> None:
        lines = [line for rank in gathered for line in rank["lines"]]
        self.journal.commit(lines, seconds, max(rank["peak_memory"] for rank in gathered))
        if not self.plan.silent:
            for line in lines:
                self.runtime.console.say(outcome_of(line))
        self.progress.end_step(len(lines))

    def results(self) -> Results:
        device = describe_device(self.runtime.device)
        return summarise(self.journal, self.task.metric_name, self.plan.evaluate_metrics, device)


def outcome_of(line: dict[str, Any]) -> str:
    """One example in a sentence: its score, what was answered and what was wanted."""
    outcome = line["error"] or f"{line['score']:.2f} for {line['output'].strip()!r}, wanted {line['targets']!r}"
    return f"{line['id']} ({line['length']:,} tokens): {outcome}"
