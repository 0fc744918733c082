"""The fastest way to attend on this processor: measured once for a shape of layer, and remembered in the user's cache.

Which one wins depends on the processor, the precision, the shape and the number of threads, and nothing that a
processor says of itself tells it.
"""

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from ..config import AttentionLayer
from ..processor import everything_told, processor_name
from ..workers import cores
from .backends import BACKENDS
from .blockwise import QUERY_BLOCK
from .segment import Segment
from .window_weights import built_pass
from .within_window import attend_within_window

logger = logging.getLogger(__name__)

RECORDED = "attention_measured"
"""The key of what was found in a run's config.json and in results of benchmarks."""
TURN_SECONDS = 0.045
"""For so long each candidate runs over and over, twice at least; of a layer there are five turns at most. The first run
loads the candidate's code, and for ten or more milliseconds threads of the one before take cores, waiting for work.
"""
FLOP_PER_THREAD = 5 * 2**27
"""Of a run: some ten milliseconds on a slow processor."""
ROWS, FEWEST_ROWS = 2048, 128
VERSION = 6
"""Of the candidates' code: a new one is measured anew."""
DENSE = "dense"
"""torch's own causal attention, which within the window is Λ-attention."""


@dataclass(frozen=True)
class Kind:
    """What a measurement holds for: tensors of these sizes, on this processor.

    begins: of the first window's queries, whose attention is causal; else of those whose window is full.
    """

    dtype: str
    query_heads: int
    key_heads: int
    head_dim: int
    value_dim: int
    local_branch: int
    global_branch: int
    begins: bool
    candidates: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """The fastest candidate, and the seconds that each took. where: on what it was measured; how: that, in words."""

    name: str
    seconds: Mapping[str, float]
    where: str
    how: str = "measured on this processor"

    def __str__(self) -> str:
        others = [name for name in self.seconds if name != self.name]
        beside = ", ".join(f"{self.seconds[name] / self.seconds[self.name]:.2f}x by {name}" for name in others)
        return f"{self.how}: {beside}"


_found: dict[Kind, Measured] = {}
_lock = Lock()


@torch.compiler.disable
def fastest(kind: Kind, layer: AttentionLayer, dtype: torch.dtype) -> Measured:
    """The fastest of the kind's candidates: as this process found it, or an earlier one on such a machine, or now."""
    with _lock:  # threads that measure at once measure each other
        if kind not in _found:
            file = _file(kind)
            _found[kind] = _read(file, kind) or _kept(file, kind, _measure(_runs(kind, layer, dtype)))
        return _found[kind]


def found() -> list[dict[str, Any]]:
    """What this process has measured, or remembered, since `recall`: values that fit into JSON."""
    with _lock:
        return [
            {"backend": x.name, "seconds": dict(x.seconds), "where": x.where, **_plain(kind)}
            for kind, x in _found.items()
        ]


def recall(measurements: Iterable[Mapping[str, Any]]) -> None:
    """Have these count, which `found` gave, and forget all others; one with other fields is left out."""
    with _lock:
        _found.clear()
    agree(measurements, "as this run began with, measured on")


def agree(measurements: Iterable[Mapping[str, Any]], how: str = "as another process has measured on") -> None:
    """Have these count, which `found` gave, where this process has found another backend or none.

    Of several of one kind the first counts. how: what the log says of them, before the machine's name.
    """
    fields, agreed = Kind.__dataclass_fields__.keys(), set()
    with _lock:
        for measurement in measurements:
            if measurement.keys() | {"where"} != {"backend", "seconds", "where", *fields}:
                continue
            values = {name: measurement[name] for name in fields}
            kind = Kind(**values | {"candidates": tuple(values["candidates"])})
            if kind not in agreed and (kind not in _found or _found[kind].name != measurement["backend"]):
                where = measurement.get("where", "a processor that was not noted")
                _found[kind] = Measured(measurement["backend"], measurement["seconds"], where, f"{how} {where}")
            agreed.add(kind)


def _plain(kind: Kind) -> dict[str, Any]:
    values = asdict(kind)
    return values | {"candidates": list(values["candidates"])}


def _runs(kind: Kind, layer: AttentionLayer, dtype: torch.dtype) -> dict[str, Callable[[], None]]:
    """The candidates, each ready to run on random tensors."""
    segment = _segment(kind, dtype, layer.config.caps_window)
    layer = layer.of_heads(slice(segment.query.shape[1]), segment.query.device)
    output = segment.query.new_empty(*segment.query.shape[:-1], kind.value_dim)
    attend = {name: attend_within_window if name == DENSE else BACKENDS[name].attend for name in kind.candidates}
    return {name: _run(function, segment, layer, output) for name, function in attend.items()}


def _run(function: Callable, segment: Segment, layer: AttentionLayer, output: torch.Tensor) -> Callable[[], None]:
    def run() -> None:
        function(segment, layer, output)

    return run


def _segment(kind: Kind, dtype: torch.dtype, needs_raw: bool) -> Segment:
    """Random queries, each with a full window before it unless the kind `begins`."""
    heads, group, rows = sizes(kind)
    start = 0 if kind.begins else kind.local_branch + kind.global_branch
    keys = rows if kind.begins else kind.local_branch - 1 + rows
    generator = torch.Generator("cpu").manual_seed(0)

    def random(heads: int, count: int, width: int) -> torch.Tensor:
        return torch.randn(1, heads, count, width, generator=generator, device="cpu").to(dtype)

    first = min(kind.global_branch, keys)
    key, value = random(heads, keys, kind.head_dim), random(heads, keys, kind.value_dim)
    query = random(heads * group, rows, kind.head_dim)
    raw, sinks = key if needs_raw else None, (key[:, :, :first], value[:, :, :first])
    return Segment(query, start, start + rows - keys, key, raw, value, *sinks)


def sizes(kind: Kind) -> tuple[int, int, int]:
    """Key heads, query heads of each, and queries of each of these, of a run: no more than the work allows.

    Heads come first to be fewer, since one is like the other, then those that share a key head, then queries.
    """
    rows, group = min(ROWS, kind.local_branch), kind.query_heads // kind.key_heads
    keys = rows if kind.begins else kind.local_branch
    of_one_query = (2 if kind.begins else 4) * keys * kind.head_dim  # the first window is causal
    threads = torch.get_num_threads()
    queries = FLOP_PER_THREAD * threads // of_one_query
    if queries < rows:
        whole = queries - queries % (QUERY_BLOCK * threads)  # for a block that is left over all threads but one wait
        return 1, 1, max(min(rows, FEWEST_ROWS), whole or queries)
    heads = queries // rows
    return min(kind.key_heads, max(1, heads // group)), min(group, heads), rows


@torch.no_grad()
def _measure(runs: Mapping[str, Callable[[], None]]) -> Measured:
    """The seconds of each: its shortest run."""
    seconds = {name: _shortest(run) for name, run in runs.items()}
    return Measured(min(seconds, key=seconds.__getitem__), seconds, here())


def _shortest(run: Callable[[], None]) -> float:
    """Seconds of the shortest run of a turn."""
    took: list[float] = []
    while len(took) < 2 or sum(took) < TURN_SECONDS:
        begin = time.perf_counter()
        run()
        took.append(time.perf_counter() - begin)
    return min(took)


def here() -> str:
    """What a measurement holds for, in words."""
    return f"{processor_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _file(kind: Kind) -> Path | None:
    """Where it is remembered; None where the user's cache folder has no place of its own."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not os.path.isabs(base):
        return None
    can = torch.get_num_threads(), cores(), built_pass() is not None
    known = json.dumps([VERSION, everything_told(), torch.__version__, *can, _plain(kind)])
    digest = hashlib.sha256(known.encode()).hexdigest()
    return Path(base, "lm-infinite", "attention", f"{digest[:32]}.json")


def _read(file: Path | None, kind: Kind) -> Measured | None:
    """What was found before; None where nothing readable is there."""
    if file is None:
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        seconds = {name: float(found["seconds"][name]) for name in kind.candidates}
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
        return None
    if not all(0 < x < float("inf") for x in seconds.values()):
        return None
    return Measured(min(seconds, key=seconds.__getitem__), seconds, here(), "measured on this processor before")


def _kept(file: Path | None, kind: Kind, found: Measured) -> Measured:
    """Remember it; where another process was the first to do so, what that found counts for this one too."""
    if file is None:
        return found
    text = json.dumps({"where": found.where, **_plain(kind), "seconds": dict(found.seconds)})
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _say_not_remembered(error)
        return found
    try:
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            written = Path(folder, "found.json")
            written.write_text(text, encoding="utf-8")
            os.link(written, file)
    except FileExistsError:
        other = _read(file, kind)
        if other is None:  # it is damaged
            with suppress(OSError):
                file.unlink()
        return other or found
    except OSError as error:
        _say_not_remembered(error)
    return found


def _say_not_remembered(error: OSError) -> None:
    logger.info("the choice is not remembered for the next run: %s", error)


def _renew_lock() -> None:
    global _lock
    _lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)  # another thread of the parent may have held it
