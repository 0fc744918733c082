"""Streaming perplexity: reading endless streams of documents through a bounded cache, chunk by chunk.

Every rank reads, scores and saves its own streams, in step; a kill costs what was read since the newest checkpoint.
"""

import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data.arguments import CorpusPlan, load_corpus
from data.read_ahead import ReadAhead
from models.attention.decode.cache_state import cache_bytes
from models.scoring.sequence_scorer import stream_scorer
from scripts.harness.experiment import Experiment, Results, Work
from scripts.harness.model import RunnableModel, is_sharded, load_model
from scripts.harness.model_arguments import ModelPlan
from scripts.harness.skipping import Skips
from scripts.streaming import SCRIPT
from scripts.streaming.announcing import announcement, check_vanilla, full_cache_warning
from scripts.streaming.arguments import StreamPlan
from scripts.streaming.checkpoints import Checkpoint, StreamCheckpoints
from scripts.streaming.report import describe, summarise
from scripts.streaming.saving import Saving, find_newest
from scripts.streaming.schedule import GO_ON, SAVE, STOP, Schedule
from scripts.streaming.scoring import refuse_broken, score
from scripts.streaming.streams import (
    Share,
    Standing,
    Stream,
    Texts,
    make_texts,
    open_streams,
    read_chunks,
    share_out,
)
from scripts.streaming.summing import bring_together, sums_of
from scripts.streaming.token_caches import open_token_cache
from utils.errors import Unfinished, UserError
from utils.progress import Amount, Progress
from utils.ranks.runtime import Runtime, describe_device, memory_in_use, peak_memory, release_memory
from utils.text_tables import counted
from utils.trials.files import SAMPLES, STREAM_ARRAYS
from utils.trials.trial import Trial

RUNNING_TOKENS = 10**6
RUNNING_NLL = "nll of the last million"


@dataclass(frozen=True)
class Streaming(Experiment):
    """The NLL of a model over endless streams, whose orders are drawn from the corpus's seed."""

    model: ModelPlan
    corpus: CorpusPlan
    streams: StreamPlan
    strict_data: bool = False

    script = SCRIPT
    every_rank_writes = True

    def open(self, runtime: Runtime) -> "Reading":
        begun = time.monotonic()
        with runtime.together():
            sharded = is_sharded(self.model, runtime)
        share = share_out(self.streams.streams, runtime, sharded)
        with runtime.together():
            corpus = load_corpus(replace(self.corpus, seed=None), self.strict_data)
        model = load_model(self.model, runtime)
        if self.model.attention is None:
            check_vanilla(model, self.streams.streaming_length)
        with runtime.together():
            cache = open_token_cache(self.streams.token_cache, self.corpus, corpus, model.tokenizer, runtime.console)
            skips = Skips(runtime.console, self.strict_data)
            texts = make_texts(corpus, model, self.corpus.seed, self.streams.document_separator, cache, skips)
        return Reading(self, texts, share, model, runtime, begun)

    def describe(self, results: Results) -> str:
        return describe(results)

    def tidy(self, log_dir: Path) -> None:
        StreamCheckpoints(log_dir).remove_all()


class Reading(Work):
    """Reads the streams of a trial in step; a piece is a chunk of them all."""

    saves = True

    def __init__(
        self,
        experiment: Streaming,
        texts: Texts,
        share: Share,
        model: RunnableModel,
        runtime: Runtime,
        begun: float,
    ) -> None:
        """begun: the time that --max_seconds counts from."""
        said = announcement(experiment.streams, texts)
        super().__init__(runtime, model, texts.corpus.name, len(texts.corpus), said)
        self.plan, self.attention = experiment.streams, experiment.model.attention
        self.texts, self.share, self.begun = texts, share, begun

    def resume(self, trial: Trial | None, log_dir: Path) -> None:
        self.trial, self.checkpoints = trial, StreamCheckpoints(log_dir)
        self.inner = stream_scorer(self.model.model, self.model.compiled)
        self.scorer = self.model.place(self.inner)
        if self.attention is None or self.attention.attends_all:
            warning = full_cache_warning(self.inner, self.plan, self.attention, self.runtime.device)
            self.runtime.console.say(warning)
        checkpoint = find_newest(self.checkpoints, self.trial, self.runtime)
        with self.runtime.together():
            self.streams = open_streams(self.share, self.texts, self.plan, log_dir, checkpoint)
        self.repeats = any(stream.cursor.pass_number for stream in self.streams)  # and that is said already
        self.standing = Standing()
        if checkpoint is not None:
            self.go_on_from(checkpoint)
        with self.runtime.together():
            if self.runtime.is_main:
                self.drop_lines_of_lost_chunks()
        total, done = self.plan.streaming_length * self.plan.streams, self.standing.position * self.plan.streams
        memory = partial(self.standing.most_memory, self.runtime.device)
        self.progress = Progress(self.runtime.console, Amount(total, done), memory, RUNNING_NLL)

    def go_on_from(self, checkpoint: Checkpoint) -> None:
        """Take the sums, the caches and the standing of a checkpoint."""
        self.standing = Standing(**{field.name: checkpoint.state[field.name] for field in fields(Standing)})
        with self.runtime.together():
            rows = [stream.take_over(checkpoint) for stream in self.streams]
        position, length = self.standing.position, self.plan.streaming_length
        self.inner.restore(rows, position, self.runtime.device)  # a forward, so not within `together`
        self.runtime.console.say(f"going on from token {position:,} of {length:,} ({checkpoint.folder.name})")

    def drop_lines_of_lost_chunks(self) -> None:
        """Keep the lines of samples.jsonl that the checkpoint counts. Raises UserError where some are missing."""
        lines, counted = self.trial.samples(), self.standing.chunks
        if len(lines) < counted:
            raise UserError(
                f"{self.trial.folder / SAMPLES} holds {len(lines)} of the {counted} chunks that its checkpoint counts: "
                "put it back, or give --repair or --overwrite"
            )
        self.trial.replace_samples(lines[:counted])

    def pieces(self) -> Generator[int, None, None]:
        """The number of tokens of each chunk; between two of them a checkpoint, where one is due."""
        length = self.plan.streaming_length
        read = partial(read_chunks, self.streams, self.standing.position, self.plan)
        self.saving, schedule = Saving(self.checkpoints, self.trial, self.runtime), Schedule(self.plan, self.begun)
        with closing(self.saving), ReadAhead(read) as chunks:
            self.chunks = iter(chunks)
            while self.standing.position < length:
                yield min(self.plan.chunk, length - self.standing.position)
                if self.standing.position < length:
                    self.save_where_due(schedule)
            with self.runtime.together():
                self.saving.wait()
        with self.runtime.together():
            for stream in self.kept_streams:
                stream.sync()
            if self.runtime.is_main:
                self.trial.sync_samples()
        size = cache_bytes(self.inner.cache) // len(self.streams)
        self.gathered_sums = self.runtime.gather(sums_of(self.kept_streams, size))

    def save_where_due(self, schedule: Schedule) -> None:
        """Begin a checkpoint where the first rank says so. Raises Unfinished where the time is up."""
        with self.runtime.together():
            self.saving.check()
        due = schedule.decide(self.standing.chunks, self.saving.is_writing) if self.runtime.is_main else None
        due = self.runtime.broadcast(due)
        if due == GO_ON:
            return
        if due == SAVE:
            self.begin_saving()
        if due == STOP:
            self.save()
            self.runtime.console.say(
                f"the time is up (--max_seconds {self.plan.max_seconds}) at token {self.standing.position:,} of "
                f"{self.plan.streaming_length:,}: the same command goes on"
            )
            raise Unfinished

    def begin_saving(self) -> None:
        with self.runtime.together():
            self.saving.begin(self.kept_streams, self.inner, self.standing)

    def save(self) -> None:
        """Write a checkpoint, and wait until it counts."""
        self.begin_saving()
        with self.runtime.together():
            self.saving.wait()

    def do(self, piece: int) -> dict[str, Any]:
        """Read and score one chunk of this rank's streams; nothing of it counts if a rank fails."""
        runtime, first = self.runtime, self.standing.first_scored
        with runtime.together():
            tokens, cursors = next(self.chunks)
        self.progress.begin_step(piece * self.plan.streams)
        nll = score(self.scorer, tokens, self.standing.position, runtime.device, self.progress)
        with runtime.together():
            refuse_broken(nll, first, self.share.indices)
        with runtime.together():
            for stream, row, cursor in zip(self.streams, nll, cursors):
                stream.keep(first, row, cursor)
        release_memory(runtime.device)
        self.standing.position += piece
        self.standing.chunks += 1
        return self.report(nll)

    def report(self, nll: np.ndarray) -> dict[str, Any]:
        """The news of this rank's streams, for the first one, after a chunk."""
        device, owned = self.runtime.device, self.share.owned
        return {
            "tokens": nll.size if owned else 0,
            "nll": float(nll.sum(dtype=np.float64)) if owned else 0.0,
            "newest": [stream.statistics.newest(RUNNING_TOKENS) for stream in self.kept_streams],
            "passes": max(stream.cursor.pass_number for stream in self.streams),
            "memory": memory_in_use(device),
            "peak_memory": peak_memory(device),
        }

    def keep(self, gathered: list[dict[str, Any]], seconds: float) -> None:
        """Write the line of a chunk, and show how far the streams are."""
        standing, tokens = self.standing, sum(rank["tokens"] for rank in gathered)
        standing.seconds += seconds
        standing.peak_memory_bytes = max(standing.peak_memory_bytes, *(rank["peak_memory"] for rank in gathered))
        line = {
            "index": standing.chunks - 1,
            "end": standing.position,
            "tokens": tokens,
            "nll": sum(rank["nll"] for rank in gathered) / tokens if tokens else None,
            "seconds": round(seconds, 6),
            "memory_bytes": max((rank["memory"] for rank in gathered if rank["memory"]), default=None),
        }
        self.trial.append_samples([line], sync=False)  # a checkpoint does it
        self.say_once_that_texts_repeat(max(rank["passes"] for rank in gathered))
        counts, totals = zip(*(pair for rank in gathered for pair in rank["newest"]))
        read = standing.position * self.plan.streams - self.progress.amount.done
        self.progress.end_step(read, nll=sum(totals) / sum(counts) if sum(counts) else None)

    def say_once_that_texts_repeat(self, passes: int) -> None:
        """Say it when the first stream is past its first pass over the documents."""
        if passes and not self.repeats:
            self.repeats = True
            self.runtime.console.say(
                f"{counted(self.count, 'document')} lasted for fewer than {self.standing.position:,} tokens: the text "
                "is read again, in another order"
            )

    @property
    def kept_streams(self) -> list[Stream]:
        """The streams that this rank keeps."""
        return self.streams if self.share.owned else []

    def results(self) -> Results:
        """Write the sums of all streams as stats.npz, and return the headline numbers."""
        length = self.plan.streaming_length
        arrays, summaries, skipped = bring_together(self.gathered_sums, length)
        self.trial.replace_arrays(arrays, STREAM_ARRAYS)
        return summarise(self.standing, length, arrays, summaries, describe_device(self.runtime.device)) | skipped
