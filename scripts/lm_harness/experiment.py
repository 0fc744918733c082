"""Tasks of lm-eval: one after the other, each kept when it is done."""

import traceback
from collections.abc import Generator as Pieces
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lm_eval import evaluate

from scripts.generation.arguments import Generation
from scripts.generation.generator import Generator
from scripts.generation.way import choose_way
from scripts.harness.experiment import Experiment, Results, Work
from scripts.harness.journal import DIGEST, Journal
from scripts.harness.model import RunnableModel, load_model
from scripts.harness.model_arguments import ModelPlan
from scripts.harness.positions import beyond_table
from scripts.harness.prefill import choose_prefill
from scripts.harness.prefill_arguments import PrefillPlan
from scripts.lm_harness import SCRIPT
from scripts.lm_harness.arguments import TasksPlan
from scripts.lm_harness.gen_kwargs import check_gen_kwargs
from scripts.lm_harness.language_model import Counts, LmInfinite, default_length
from scripts.lm_harness.quiet import hearing_lm_eval
from scripts.lm_harness.report import all_results, describe, sample_lines, summarise, task_line
from scripts.lm_harness.tasks import OpenedTasks, generates, open_tasks, seed_all
from scripts.perplexity.reading import ChunkReader
from utils.errors import SharedError, UserError
from utils.files import replace_file, replace_json, writing_to
from utils.progress import Amount, Progress
from utils.ranks.runtime import Runtime, describe_device, is_out_of_memory, peak_memory
from utils.text_tables import counted
from utils.trials.files import LM_EVAL_RESULTS, LOG, task_samples_name
from utils.trials.seals import file_digest
from utils.trials.trial import Trial

KEPT = "the tasks before it are kept"
BOOTSTRAP = 100_000
"""Drawings for standard errors that have no formula, as many as lm-eval's own command makes."""


@dataclass(frozen=True)
class LmHarness(Experiment):
    """A model's scores on tasks of lm-eval. no_captured_step: as in `Generation`."""

    model: ModelPlan
    tasks: TasksPlan
    reading: PrefillPlan
    batch_size: int
    no_captured_step: bool = False

    script = SCRIPT

    def open(self, runtime: Runtime) -> "Evaluating":
        if runtime.world_size > 1:
            raise SharedError(
                f"this script runs on one rank, and {runtime.world_size} were started: give each its own tasks and "
                "--log_dir, and one table shows them together"
            )
        check_gen_kwargs(self.tasks.gen_kwargs or {})
        model = load_model(self.model, runtime)
        if self.tasks.apply_chat_template and not model.tokenizer.chat_template:
            raise UserError("--apply_chat_template: the tokenizer has no chat template; leave it out")
        length = self.max_length(model)
        with hearing_lm_eval(runtime.console):
            opened = open_tasks(self.tasks, str(model.tokenizer.name_or_path))
        self.refuse_top_k(opened)
        return Evaluating(self, opened, model, length, runtime)

    def max_length(self, model: RunnableModel) -> int | None:
        """Tokens of a request at most; None for no limit: the model is changed so that it reads longer ones."""
        length = self.tasks.max_length
        if length is not None:
            beyond = beyond_table(model.model, length, f"--max_length {length}", "{most} at most")
            if beyond is not None:
                raise UserError(beyond)
            return length
        changed = self.model.attention is not None or self.model.spec.rope_scaling is not None
        return None if changed else default_length(model)

    def refuse_top_k(self, opened: OpenedTasks) -> None:
        """Raise UserError for a task whose scored tokens would not all attend to the top k."""
        if self.model.attention is None or self.model.attention.top_k is None:
            return
        for name, task in opened.tasks.items():
            if not generates(task):
                raise UserError(
                    f"--top_k_attention {self.model.attention.top_k.k} is not for --tasks {name}: only the last token "
                    "of a forward takes the top k, and this task scores several; give tasks that generate"
                )

    def describe(self, results: Results) -> str:
        return describe(results)


class Evaluating(Work):
    """Has lm-eval evaluate the tasks that are left; a piece is the place of one."""

    def __init__(
        self, plan: LmHarness, opened: OpenedTasks, model: RunnableModel, length: int | None, runtime: Runtime
    ) -> None:
        names = ",".join(plan.tasks.tasks)
        super().__init__(runtime, model, names, len(opened.names), f", {counted(len(opened.names), 'task')} of lm-eval")
        self.plan, self.opened, self.length = plan, opened, length
        generation = Generation(no_captured_step=plan.no_captured_step)
        shared = plan.reading, model, plan.model, plan.batch_size, runtime
        self.way = choose_way(generation, *shared)
        self.documents = choose_prefill(*shared, fills_cache=False)
        self.prefill = self.way.reading
        limit = "requests of any length" if length is None else f"requests of at most {length:,} tokens"
        self.announcement += f", {limit}{self.way.announcement(length)}"

    def resume(self, trial: Trial | None, log_dir: Path) -> None:
        self.log_dir = log_dir
        self.journal = Journal(trial, self.file_of)
        done = self.journal.done
        self.left = [place for place in range(self.count) if place not in done]
        amount = Amount(self.count, len(done), "tasks", digits=2)
        self.progress = Progress(self.runtime.console, amount, partial(peak_memory, self.runtime.device))
        self.lm = self.make_language_model()

    def make_language_model(self) -> LmInfinite:
        """The model where it computes, as lm-eval asks it."""
        reader = ChunkReader(self.model, self.documents, self.runtime)  # which places it
        generation, device = Generation(), self.runtime.device
        generator = Generator(self.model.model, self.model.tokenizer, generation, device, way=self.way)
        return LmInfinite(self.model, generator, reader, self.runtime, self.plan.batch_size, self.length)

    def file_of(self, place: int) -> Path:
        """Where lm-eval's lines on the examples of a task are kept."""
        return self.log_dir / task_samples_name(place, self.opened.names[place])

    def pieces(self) -> Pieces[int, None, None]:
        yield from self.left

    def do(self, piece: int) -> dict[str, Any]:
        name = self.opened.names[piece]
        self.runtime.console.say(f"task {piece + 1} of {self.count}: {name}")
        self.progress.begin_step(1)
        self.lm.counts = Counts()
        seed_all(self.plan.tasks)
        with hearing_lm_eval(self.runtime.console), self.naming_faults(name):
            found = self.evaluate(name)
        return {"line": task_line(piece, name, found, self.lm.counts), "samples": found["samples"][name]}

    def evaluate(self, name: str) -> dict[str, Any]:
        """What lm-eval finds for one task."""
        plan = self.plan.tasks
        return evaluate(
            lm=self.lm,
            task_dict={"tasks": {name: self.opened.tasks[name]}, "groups": {}},
            limit=plan.limit,
            bootstrap_iters=BOOTSTRAP,
            log_samples=True,
            system_instruction=plan.system_instruction,
            apply_chat_template=plan.apply_chat_template,
            fewshot_as_multiturn=plan.apply_chat_template,
        )

    @contextmanager
    def naming_faults(self, name: str) -> Iterator[None]:
        """In it, what lm-eval, a task's own code or the model raises is a UserError; log.txt keeps the traceback."""
        try:
            yield
        except (UserError, BrokenPipeError):  # which end the program in their own ways
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise UserError(
                    f"memory ran out in task {name!r}: {KEPT}; give a smaller --batch_size, --prefill_chunk or "
                    "--max_length"
                ) from None
            self.runtime.console.log(traceback.format_exc())
            reason = " ".join(str(error).split()) or "no reason given"
            raise UserError(
                f"task {name!r} failed with {type(error).__name__} ({reason}): {KEPT}, {LOG} has the traceback; "
                f"look at {self.plan.tasks.suspects()}"
            ) from error

    def keep(self, gathered: list[dict[str, Any]], seconds: float) -> None:
        line, samples = gathered[0]["line"], gathered[0]["samples"]
        path = self.file_of(line["index"])
        text = "".join(f"{sample}\n" for sample in sample_lines(samples))
        with writing_to(self.log_dir):
            replace_file(path, lambda file: file.write(text.encode(errors="backslashreplace")))
        self.journal.commit([line | {DIGEST: file_digest(path)}], seconds, peak_memory(self.runtime.device))
        self.progress.end_step(1)

    def results(self) -> Results:
        lines = sorted(self.journal.lines, key=lambda line: line["index"])
        whole = all_results(lines, self.opened.groups, self.lm, self.plan.tasks)
        with writing_to(self.log_dir):
            replace_json(self.log_dir / LM_EVAL_RESULTS, whole)
        costs = {"seconds": self.journal.seconds, "peak_memory_bytes": self.journal.peak_memory}
        return summarise(lines, whole, self.length) | costs | {"device": describe_device(self.runtime.device)}
