"""Downstream tasks: putting examples to the model, and scoring what it answers."""

from collections.abc import Hashable, Iterator, Sequence
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
from scripts.downstream.shared_prefill import reason_to_read_alone
from scripts.downstream.turns import Prepared, Turns, groups
from scripts.generation.arguments import Generation
from scripts.generation.generator import Generator
from scripts.generation.way import Way, choose_way
from scripts.harness.documents import DocumentWork, Pieces
from scripts.harness.experiment import Experiment, Results, all_failed
from scripts.harness.model import RunnableModel, load_model
from scripts.harness.model_arguments import ModelPlan
from scripts.harness.positions import refuse_prompts_beyond_table
from scripts.harness.prefill_arguments import PrefillPlan
from utils.errors import UserError
from utils.progress import Amount
from utils.ranks.runtime import Runtime, describe_device
from utils.ranks.steps import grouped_steps
from utils.trials.trial import Trial


@dataclass(frozen=True)
class Downstream(Experiment):
    """A model's answers to the examples of one task. generation: of no length where the task's own counts."""

    model: ModelPlan
    task: TaskPlan
    truncation: Truncation
    generation: Generation
    reading: PrefillPlan
    batch_size: int

    script = SCRIPT

    def open(self, runtime: Runtime) -> "Answering":
        with runtime.together():
            task = get_task(self.task.dataset, self.task.dataset_group)
        model = load_model(self.model, runtime)
        self.refuse_no_room(task, model)
        way = choose_way(self.generation, self.reading, model, self.model, self.batch_size, runtime)
        with runtime.together():
            encoder = self.make_encoder(task, model)
            generator = self.make_generator(task, model, runtime, way)
            request = task_request(self.task, self.truncation.max_length, encoder)
            examples = open_examples(task, request, self.task.start_data_from, self.task.max_data_num)
        alone = "" if self.task.no_shared_prefill else reason_to_read_alone(model, self.model, way.synced)
        runner = self.make_runner(task, encoder, generator, model, shares=alone is None)
        work = Answering(self, task, examples, runner, model, runtime)
        work.prefill = way.reading
        work.announcement += way.announcement(self.truncation.max_length)
        work.announcement += f", each prompt read from its start: {alone}" if alone else ""
        return work

    def refuse_no_room(self, task: Task, model: RunnableModel) -> None:
        """Raise SharedError where the longest prompts that the flags allow leave the answer no position."""
        generated = self.generation.or_length(task.max_generation_length).max_generation_length
        cut, last = self.truncation.max_length, self.task.runtime_truncation
        if last is not None and (cut is None or last <= cut):
            refuse_prompts_beyond_table(model.model, last, generated, "--runtime_truncation")
        elif cut is not None and not self.task.nominal_length:
            refuse_prompts_beyond_table(model.model, cut, generated, "--max_length", task.length_of_answer)

    def make_encoder(self, task: Task, model: RunnableModel) -> PromptEncoder:
        """Prompts as the flags say, and where they are silent as the task recommends."""
        chat = self.task.apply_chat_template
        structured = self.task.structured_prompt or (task.structured and not chat)
        return PromptEncoder(model.tokenizer, structured, chat)

    def make_generator(self, task: Task, model: RunnableModel, runtime: Runtime, way: Way) -> Generator:
        """Answers of the task's length, unless the flags say otherwise, and up to its stop strings."""
        generation = self.generation.or_length(task.max_generation_length)
        return Generator(model.model, model.tokenizer, generation, runtime.device, task.stop, way)

    def make_runner(
        self, task: Task, encoder: PromptEncoder, generator: Generator, model: RunnableModel, shares: bool
    ) -> TaskRunner:
        """Prompts cut as the flags say; those of a nominal length are whole, as they may be longer."""
        last, known = self.task.runtime_truncation, model.vocab_size
        truncation = Truncation() if self.task.nominal_length else self.truncation
        return TaskRunner(task, encoder, generator, truncation, last, vocab_size=known, shares=shares)

    def describe(self, results: Results) -> str:
        return describe(results)

    def failure(self, results: Results) -> str | None:
        return all_failed(results["failed"], results["examples"], "example")


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
        super().__init__(runtime, model, examples, task.name, start, plan.batch_size, kind="example")
        self.plan, self.task, self.runner, self.said_cut = plan.task, task, runner, False

    def resume(self, trial: Trial | None, log_dir: Path) -> None:
        super().resume(trial, log_dir)
        self.progress = self.show_progress(Amount(self.count, len(self.done), "examples", digits=2))
        self.engine = self.model.place(self.model.model)  # it holds the shards together, and must live

    def pieces(self) -> Pieces:
        self.turns = Turns(super().pieces(), self.prepare)
        try:
            yield from self.turns
        finally:
            del self.turns  # it holds this work in its turn, and with it the trial, which stays locked

    def steps(self, places: Sequence[int]) -> Iterator[list[list[int]]]:
        """Where prompts share beginnings, the examples of one document go to one rank, and are not in others' batches.

        What is generated shares no document; each example of it is costly to make, and made on one rank only.
        """
        readers, batch = self.runtime.readers, self.batch_size
        if self.runner.shared is None or self.task.generates or readers * batch == 1:
            return super().steps(places)
        return grouped_steps(groups(places, self.beginning, batch), readers, batch)

    def beginning(self, place: int) -> Hashable:
        """The text up to the end of an example's document; of one without a document, its place."""
        try:
            instruction, document, _ = self.texts[place].prompt.parts(self.runner.encoder.structured)
        except UserError:
            return place  # whose turn says why
        return (instruction, document) if document else place

    def prepare(self, place: int) -> Prepared:
        """The example at a place, and the tokens of its prompt. Raises UserError."""
        example = self.texts[place]
        return example, self.runner.prompt(example)

    def do(self, piece: list[int]) -> dict[str, Any]:
        with self.runtime.together():
            taken = self.turns.take(piece)
        examples, prompts = [example for example, _ in taken], [prompt for _, prompt in taken]
        lines = self.runner.lines(examples, prompts, self.turns.coming(), self.longest(prompts))
        return {"lines": lines if self.runtime.keeps else [], "peak_memory": self.peak_memory(), "cut": self.runner.cut}

    def longest(self, prompts: list[list[int]]) -> int:
        """Where ranks read in chunks together: the tokens of the longest prompt of all of them, else 0."""
        if not (self.runner.generator.synced and self.prefill.chunk):
            return 0
        own = self.runtime.gather(max(map(len, prompts), default=0))
        return self.runtime.broadcast(max(own, default=0))

    def keep(self, gathered: list[dict[str, Any]], seconds: float) -> None:
        lines = [line for rank in gathered for line in rank["lines"]]
        self.journal.commit(lines, seconds, max(rank["peak_memory"] for rank in gathered))
        self.say_cut(next((rank["cut"] for rank in gathered if rank["cut"] is not None), None))
        if not self.plan.silent:
            for line in lines:
                self.runtime.console.say(outcome_of(line))
        self.progress.end_step(len(lines))

    def say_cut(self, example: Hashable) -> None:
        """Say once that prompts lose their question, that example's first."""
        if example is not None and not self.said_cut:
            self.said_cut = True
            self.runtime.console.say(
                "warning: --truncation_side right cuts the question off prompts of more than --max_length "
                f"{self.runner.truncation.max_length} tokens, first of example {example!r}: --truncation_side center "
                "keeps both ends"
            )

    def results(self) -> Results:
        device = describe_device(self.runtime.device)
        return summarise(self.journal, self.task.metric_name, self.plan, device)


def outcome_of(line: dict[str, Any]) -> str:
    """One example in a sentence: its score, what was answered and what was wanted."""
    outcome = line["error"] or f"{line['score']:.2f} for {line['output'].strip()!r}, wanted {line['targets']!r}"
    return f"{line['id']} ({line['length']:,} tokens): {outcome}"
