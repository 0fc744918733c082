"""Running streams over ranks: chunk by chunk, with checkpoints, so that a kill costs `save_steps` chunks at most."""

import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data.read_ahead import ReadAhead
from data.token_stream import Cursor
from models.attention.decode.cache_state import cache_bytes
from models.scoring.stream_scorer import StreamScorer
from scripts.streaming.checkpoints import Checkpoint, StreamCheckpoints
from scripts.streaming.streams import Stream, Texts, share_out
from utils.errors import UserError
from utils.progress import StreamProgress, layer_progress
from utils.ranks.runtime import Runtime, is_out_of_memory, memory_in_use, peak_memory, release_memory
from utils.trials.nll_of_stream import StreamStatistics, merge
from utils.trials.token_nll import TokenNllFile
from utils.trials.trial import SAMPLES, Trial

RUNNING_TOKENS = 10**6


class StreamRun:
    """The streams of a trial. Every rank makes one; each reads, scores and saves its own streams, in step.

    scorer: a StreamScorer that may be wrapped by DeepSpeed. sharded: whether ZeRO-3 spreads its weights.
    """

    def __init__(
        self,
        arguments: Namespace,
        runtime: Runtime,
        trial: Trial | None,
        texts: Texts,
        scorer: nn.Module,
        sharded: bool,
    ) -> None:
        self.runtime, self.trial, self.texts, self.scorer = runtime, trial, texts, scorer
        self.inner: StreamScorer = getattr(scorer, "module", scorer)
        self.length, self.chunk = arguments.streaming_length, arguments.max_length
        self.save_steps = arguments.save_steps
        self.streams_in_all = arguments.streams
        self.saves_tokens = arguments.save_token_nll
        self.log_dir = Path(arguments.log_dir)
        self.checkpoints = StreamCheckpoints(self.log_dir)
        self.indices, self.owns = share_out(arguments.streams, runtime, sharded)
        self.chunks, self.position, self.seconds, self.peak_memory = 0, 0, 0.0, 0
        self.streams: list[Stream] = []
        self.repeats = False  # whether texts are being read again, and that was said

    def resume(self) -> None:
        """Take up the streams where the newest whole checkpoint left them, or at their beginning."""
        runtime, found = self.runtime, None
        with runtime.together():
            if runtime.is_main:
                found = self.checkpoints.newest(runtime.console)
        where = runtime.broadcast([str(found.folder), found.state] if found else None)
        checkpoint = Checkpoint(Path(where[0]), where[1]) if where else None
        state = checkpoint.state if checkpoint else {"streams": []}
        self.chunks, self.position = state.get("chunks", 0), state.get("position", 0)
        self.seconds, self.peak_memory = state.get("seconds", 0.0), state.get("peak_memory_bytes", 0)
        saved = {entry["stream"]: entry for entry in state["streams"]}
        with runtime.together():
            self.streams = [self._open(index, saved.get(index)) for index in self.indices]
            rows = self._take_over(checkpoint) if checkpoint else []
        self.repeats = any(stream.cursor.pass_number for stream in self.streams)
        if checkpoint:
            self.inner.restore(rows, self.position, runtime.device)  # a forward, so not within `together`
            runtime.console.say(f"going on from token {self.position:,} of {self.length:,} ({checkpoint.folder.name})")
        with runtime.together():
            if runtime.is_main:
                self._drop_lines_of_lost_chunks()

    def go_on(self) -> None:
        """Read to the end of the streams."""
        runtime = self.runtime
        progress = StreamProgress(
            runtime.console,
            total=self.length * self.streams_in_all,
            done=self.position * self.streams_in_all,
            memory=lambda: max(self.peak_memory, peak_memory(runtime.device)),
        )
        left = -(-(self.length - self.position) // self.chunk)
        with ReadAhead(self._chunks) as chunks, layer_progress(self.scorer, progress.within_chunk):
            chunks = iter(chunks)
            for _ in range(left):
                self._take_chunk(chunks, progress)
                if self.chunks % self.save_steps == 0 and self.position < self.length:
                    self._save()
        with runtime.together():
            self._sync_single_tokens()

    def merged(self) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
        """On the first rank: the sums of all streams (`nll_of_stream.merge`), and what each one is."""
        mine = [
            {
                "sums": {name: array.tolist() for name, array in stream.statistics.arrays().items()},
                "what": self._summary(stream),
            }
            for stream in self._own_streams
        ]
        gathered = [stream for rank in self.runtime.gather(mine) for stream in rank]
        gathered.sort(key=lambda stream: stream["what"]["stream"])
        if not gathered:
            return {}, []
        sums = [{name: np.array(values) for name, values in stream["sums"].items()} for stream in gathered]
        return merge(sums, self.length), [stream["what"] for stream in gathered]

    def _summary(self, stream: Stream) -> dict[str, Any]:
        statistics, cursor = stream.statistics, stream.cursor
        documents = cursor.pass_number * len(self.texts.corpus) + cursor.place + (cursor.offset > 0)
        return {
            "stream": stream.index,
            "seed": stream.tokens.seed,
            "tokens": statistics.tokens,
            "nll": statistics.total / statistics.tokens,
            "documents": documents,
            "passes": documents / len(self.texts.corpus),
            "cache_bytes": cache_bytes(self.inner.cache) // len(self.streams),
        }

    def _open(self, index: int, saved: dict[str, Any] | None) -> Stream:
        cursor = Cursor(**saved["cursor"]) if saved else Cursor()
        scored = saved["token_nll"] if saved else 0
        token_nll = TokenNllFile(self.log_dir, index, scored) if self.saves_tokens and self.owns else None
        return Stream(index, self.texts.stream(index, cursor), cursor, StreamStatistics(self.length), token_nll)

    def _take_over(self, checkpoint: Checkpoint) -> list[dict[str, Tensor]]:
        """The sums of this rank's streams; returns what else was saved of each."""
        rows = []
        for stream in self.streams:
            tensors = checkpoint.tensors(stream.index)
            try:
                arrays = {name: tensors.pop(name).numpy() for name in stream.statistics.arrays()}
                stream.statistics.restore(arrays)
            except (KeyError, ValueError) as error:
                raise UserError(
                    f"{checkpoint.folder} was written by another version of this code ({error}): go on with that one, "
                    "or start afresh with --overwrite"
                ) from None
            rows.append(tensors)
        return rows

    def _drop_lines_of_lost_chunks(self) -> None:
        lines = self.trial.samples()
        if len(lines) < self.chunks:
            raise UserError(
                f"{self.log_dir / SAMPLES} holds {len(lines)} of the {self.chunks} chunks that its checkpoint counts: "
                "put it back, or start afresh with --overwrite"
            )
        self.trial.replace_samples(lines[: self.chunks])

    def _chunks(self) -> Iterator[tuple[np.ndarray, list[Cursor]]]:
        """What is left of this rank's streams: tokens [streams, n], and where each stream stands after them."""
        for start in range(self.position, self.length, self.chunk):
            count = min(self.chunk, self.length - start)
            tokens = np.stack([stream.tokens.read(count) for stream in self.streams])
            yield tokens, [stream.tokens.cursor for stream in self.streams]

    def _take_chunk(self, chunks: Iterator[tuple[np.ndarray, list[Cursor]]], progress: StreamProgress) -> None:
        """Read and score one chunk of every stream; nothing of it counts if one of them fails."""
        runtime, started = self.runtime, time.monotonic()
        with runtime.together():
            tokens, cursors = next(chunks)
        progress.begin_chunk(tokens.shape[1] * self.streams_in_all)
        nll = self._score(tokens)
        with runtime.together():
            self._refuse_broken(nll)
        with runtime.together():
            self._keep(nll, cursors)
        release_memory(runtime.device)
        gathered = runtime.gather(self._report(nll))
        self.position += tokens.shape[1]
        self.chunks += 1
        self.seconds += time.monotonic() - started
        with runtime.together():
            if runtime.is_main:
                self._commit(gathered, progress, time.monotonic() - started)

    def _score(self, tokens: np.ndarray) -> np.ndarray:
        """NLL, float32 [streams, n], one token fewer at the beginning."""
        input_ids = torch.from_numpy(tokens).to(self.runtime.device)
        try:
            with torch.no_grad():
                return self.scorer(input_ids).cpu().numpy()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"memory ran out over a chunk of {tokens.shape[1]} tokens of {tokens.shape[0]} streams at token "
                f"{self.position}: start afresh with a smaller --max_length or --streams"
            ) from None

    def _refuse_broken(self, nll: np.ndarray) -> None:
        broken = np.argwhere(~np.isfinite(nll))
        if len(broken):
            row, place = broken[0]
            raise UserError(
                f"the NLL of stream {self.indices[row]} is {nll[row, place]} at position {self._first + place}: the "
                "model's logits are no numbers there; try --dtype float32"
            )

    @property
    def _first(self) -> int:
        """Position of the first token that the next chunk scores: the first of a stream is never scored."""
        return max(self.position, 1)

    def _keep(self, nll: np.ndarray, cursors: list[Cursor]) -> None:
        for stream, row, cursor in zip(self.streams, nll, cursors):
            stream.cursor = cursor
            stream.statistics.add(self._first, row)
            if stream.token_nll is not None:
                stream.token_nll.append(row)

    def _report(self, nll: np.ndarray) -> dict[str, Any]:
        """What the first rank hears of this rank's streams after a chunk."""
        device = self.runtime.device
        newest = [stream.statistics.newest(RUNNING_TOKENS) for stream in self.streams]
        return {
            "tokens": nll.size if self.owns else 0,
            "nll": float(nll.sum(dtype=np.float64)) if self.owns else 0.0,
            "newest": newest if self.owns else [],
            "passes": max(stream.cursor.pass_number for stream in self.streams),
            "memory": memory_in_use(device),
            "peak_memory": peak_memory(device),
        }

    def _commit(self, gathered: list[dict[str, Any]], progress: StreamProgress, seconds: float) -> None:
        tokens = sum(rank["tokens"] for rank in gathered)
        self.peak_memory = max(self.peak_memory, *(rank["peak_memory"] for rank in gathered))
        line = {
            "index": self.chunks - 1,
            "end": self.position,
            "tokens": tokens,
            "nll": sum(rank["nll"] for rank in gathered) / tokens if tokens else None,
            "seconds": round(seconds, 6),
            "memory_bytes": max((rank["memory"] for rank in gathered if rank["memory"]), default=None),
        }
        self.trial.append_samples([line])
        self._say_once_that_texts_repeat(max(rank["passes"] for rank in gathered))
        counts, totals = zip(*(pair for rank in gathered for pair in rank["newest"]))
        progress.end_chunk(sum(totals) / sum(counts) if sum(counts) else None)

    def _say_once_that_texts_repeat(self, passes: int) -> None:
        if passes and not self.repeats:
            self.repeats = True
            documents = len(self.texts.corpus)
            self.runtime.console.say(
                f"the {documents:,} documents have run out within {self.position:,} tokens: they are read again, in "
                "another order"
            )

    def _save(self) -> None:
        """Write a checkpoint, each rank its own streams; the time counts as the trial's."""
        runtime, started = self.runtime, time.monotonic()
        with runtime.together():
            if runtime.is_main:
                self.checkpoints.begin(self.chunks)
        with runtime.together():
            saved = self._save_own()
        gathered = runtime.gather(saved)
        self.seconds += time.monotonic() - started
        with runtime.together():
            if runtime.is_main:
                self._commit_checkpoint(gathered)

    @property
    def _own_streams(self) -> list[Stream]:
        """Those that this rank keeps."""
        return self.streams if self.owns else []

    def _sync_single_tokens(self) -> None:
        for stream in self._own_streams:
            if stream.token_nll is not None:
                stream.token_nll.sync()

    def _save_own(self) -> dict[str, Any]:
        digests: dict[str, str] = {}
        self._sync_single_tokens()
        for row, stream in enumerate(self._own_streams):
            sums = {name: torch.from_numpy(array) for name, array in stream.statistics.arrays().items()}
            digests |= self.checkpoints.save(self.chunks, stream.index, {**self.inner.state(row), **sums})
        return {"streams": [stream.describe() for stream in self._own_streams], "files": digests}

    def _commit_checkpoint(self, gathered: list[dict[str, Any]]) -> None:
        state = {
            "chunks": self.chunks,
            "position": self.position,
            "seconds": self.seconds,
            "peak_memory_bytes": self.peak_memory,
            "streams": [stream for rank in gathered for stream in rank["streams"]],
        }
        files = {name: digest for rank in gathered for name, digest in rank["files"].items()}
        self.checkpoints.commit(self.chunks, state, files)
