"""One sequence over several ranks: tokens per second, bytes sent, memory per rank, and a model of the cost.

python benchmarks/sequence_parallel.py [--device cuda] [--ranks 2] [--stretches 4096 8192] [--layers 4]

Weak scaling, in turn in one run: one rank reads a stretch of a stream alone while the others wait; all ranks read one
stretch each of one stream; and each rank reads a stream of its own, which is what the machine allows. On the CPU a rank
has one thread, on CUDA a GPU. The model has SmolLM2's shape, random weights and few layers. Beside the times stand what
benchmarks/measuring/sequence_cost.py says of them, from those of one rank and of messages alone, and on paper what it
says of Llama-2-7B on 8, 64 and 1,024 H100s.
"""

import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.distributed as dist
from transformers import LlamaConfig, PreTrainedModel
from transformers.cache_utils import Cache

from benchmarks.gpu_parts.sizes import SMOLLM2_MODEL
from benchmarks.measuring.arguments import add_by_device, benchmark_parser
from benchmarks.measuring.children import Case, add_case_argument
from benchmarks.measuring.machine import save_results
from benchmarks.measuring.memory import MIB, PeakMemory
from benchmarks.measuring.random_models import random_model
from benchmarks.measuring.rank_children import answer_from_ranks, join_ranks, run_ranks
from benchmarks.measuring.sequence_cost import Links, Work, on_paper, seconds_of_forward, sent_by
from benchmarks.measuring.timing import seconds_of
from models.assumptions import OUTPUT_CACHE, with_cache
from models.attention.config import LambdaConfig
from models.attention.sequence.caches import reading_alone, sequence_of
from models.model_base import convert_model
from utils.arguments import whole_number
from utils.program import run_main
from utils.text_tables import as_text

CONFIG = LambdaConfig(2048, 10, 2048)
STRETCHES = {"cpu": [2048, 4096, 8192], "cuda": [16_384, 65_536]}
RANKS = {"cpu": 2, "cuda": max(torch.cuda.device_count(), 2)}
VOCABULARY = 1024
TITLE = "One sequence over several ranks: a stretch each"
ALONE, TOGETHER, APART = "one rank", "one sequence", "a sequence each"
PINGS = 20


def make_model(layers: int, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """SmolLM2's shape, with few layers and a small vocabulary, the same on every rank."""
    torch.manual_seed(0)
    fewer = {"num_hidden_layers": layers, "vocab_size": VOCABULARY}
    return random_model(LlamaConfig(**SMOLLM2_MODEL | fewer), device, dtype)


def work_of(model: PreTrainedModel) -> Work:
    config, layers = model.config, model.base_model.layers
    weights = sum(parameter.numel() for parameter in layers.parameters())
    heads = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    branches = CONFIG.local_branch, CONFIG.global_branch
    return Work("SmolLM2's shape", len(layers), *heads, *branches, weights, model.dtype.itemsize)


class Reader:
    """Streams that go on from forward to forward."""

    def __init__(self, model: PreTrainedModel, stretch: int, device: str) -> None:
        self.base, self.device = model.base_model, device
        self.ids = torch.randint(VOCABULARY, (1, stretch), device=device)

    def read(self, cache: Cache | None) -> Cache:
        return self.base(self.ids, **with_cache(self.base, cache), use_cache=True)[OUTPUT_CACHE]

    def seconds(self, cache: Cache) -> float:
        return seconds_of(lambda: self.read(cache), self.device)


def measure(case: Case) -> None:
    """On every rank: time a stretch in the three ways, in turn; rank 0 writes what it found."""
    device, stretch = case["device"], case["stretch"]
    group = join_ranks(device)
    with torch.no_grad():
        model = make_model(case["layers"], device, getattr(torch, case["dtype"]))
        convert_model(model, CONFIG, sequence_group=group)
        reader, work = Reader(model, stretch, device), work_of(model)
        memory = PeakMemory(device)
        with reading_alone(model):
            own = reader.read(reader.read(None))
        shared = reader.read(None)
        before, sent_before = memory.start(), sequence_of(model).bytes_sent
        shared = reader.read(shared)
        peak = memory.peak() - before
        sent = (sequence_of(model).bytes_sent - sent_before) // work.layers
        ways = {ALONE: [], TOGETHER: [], APART: []}
        for _ in range(case["repeats"]):
            dist.barrier()
            with reading_alone(model):
                if dist.get_rank() == 0:
                    ways[ALONE].append(reader.seconds(own))
            dist.barrier()
            ways[TOGETHER].append(reader.seconds(shared))
            dist.barrier()
            with reading_alone(model):
                ways[APART].append(reader.seconds(own))
        links = measure_links(work, stretch, sequence_of(model), device)
    mine = {"seconds": ways, "peak_mib": peak / MIB, "bytes_sent": sent, "links": vars(links)}
    gathered: list = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, mine)
    answer_from_ranks(case, {"ranks": gathered, "work": vars(work)})


def measure_links(work: Work, stretch: int, sequence, device: str) -> Links:
    """A message of nothing and one of a window from each rank to the next, and an agreement, on their own."""
    window = (work.local_branch - 1) * work.key_value_bytes
    small, large = (median(_pass_on(size, device) for _ in range(PINGS)) for size in (8, window))
    agreement = median(
        seconds_of(lambda: sequence.agree(stretch, 1, None, torch.device(device)), device) for _ in range(PINGS)
    )
    return Links(small, window / max(large - small, 1e-9), agreement)


def _pass_on(size: int, device: str) -> float:
    """Seconds in which every rank sends so many bytes to the next, the last one to the first."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    out, into = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
    operations = [dist.P2POp(dist.isend, out, (rank + 1) % ranks), dist.P2POp(dist.irecv, into, (rank - 1) % ranks)]

    def run() -> None:
        for work in dist.batch_isend_irecv(operations):
            work.wait()

    dist.barrier()
    return seconds_of(run, device)


def row_of(found: Case, stretch: int) -> Case:
    """A measurement as one row: medians over rounds of the slowest rank in each, and what the model says."""
    by_rank, work = found["ranks"], Work(**found["work"])

    def slowest(way: str) -> list[float]:
        return [max(times) for times in zip(*(rank["seconds"][way] for rank in by_rank if rank["seconds"][way]))]

    seconds = {way: median(slowest(way)) for way in (ALONE, TOGETHER, APART)}
    ranks, links = len(by_rank), Links(**by_rank[0]["links"])
    rivals = median(one / two for one, two in zip(slowest(APART), slowest(TOGETHER)))
    alone = median(one / two for one, two in zip(slowest(ALONE), slowest(TOGETHER)))
    predicted = seconds_of_forward(work, stretch, seconds[APART] / work.layers, links)
    formula = [sent_by(work, [stretch] * ranks, stretch * ranks, rank) for rank in range(ranks)]
    return {
        "stretch": stretch,
        "ranks": ranks,
        "seconds": seconds,
        "tokens_per_second": {way: stretch * (1 if way == ALONE else ranks) / seconds[way] for way in seconds},
        "efficiency": alone,
        "efficiency_against_a_sequence_each": rivals,
        "predicted_seconds": predicted,
        "predicted_over_measured": predicted / seconds[TOGETHER],
        "bytes_sent_per_layer": [rank["bytes_sent"] for rank in by_rank],
        "bytes_by_formula": formula,
        "working_memory_mib": max(rank["peak_mib"] for rank in by_rank),
        "links": vars(links),
    }


def table(rows: list[Case]) -> str:
    """A line for each stretch: tokens per second, and how near to what they could be."""
    lines = [["stretch", "ranks", ALONE, TOGETHER, APART, "efficiency", "of a sequence each", "model", "MiB"], ""]
    for row in rows:
        rates = [f"{row['tokens_per_second'][way]:,.0f}" for way in (ALONE, TOGETHER, APART)]
        shares = [row["efficiency"], row["efficiency_against_a_sequence_each"], row["predicted_over_measured"]]
        numbers = [f"{share:.2f}" for share in shares] + [f"{row['working_memory_mib']:.1f}"]
        lines.append([f"{row['stretch']:,}", str(row["ranks"]), *rates, *numbers])
    return as_text(lines)


def paper_table(rows: list[Case]) -> str:
    lines = [["tokens", "H100s", "stretch", "minutes", "efficiency"], ""]
    for row in rows:
        minutes, share = f"{row['seconds'] / 60:.2f}", f"{row['efficiency']:.2f}"
        lines.append([f"{row['tokens']:.0e}", f"{row['ranks']:,}", f"{row['stretch']:,}", minutes, share])
    return as_text(lines)


def parse_arguments() -> Namespace:
    parser = benchmark_parser(__doc__)
    add_case_argument(parser)
    tokens = {"type": whole_number(1), "metavar": "N"}
    add_by_device(parser, "--ranks", RANKS, help="ranks that read together", **tokens)
    add_by_device(parser, "--stretches", STRETCHES, nargs="+", help="tokens of a rank in a forward", **tokens)
    add_by_device(parser, "--dtype", {"cpu": "float32", "cuda": "bfloat16"}, help="precision")
    parser.add_argument("--layers", default=4, help="layers of the model (default: %(default)s)", **tokens)
    parser.add_argument("--repeats", default=7, help="rounds; the median counts (default: %(default)s)", **tokens)
    return parser.parse_args()


def measure_all(arguments: Namespace, run: Callable = run_ranks) -> list[Case]:
    rows = []
    common = {name: getattr(arguments, name) for name in ("device", "dtype", "layers", "repeats")}
    for stretch in arguments.stretches:
        found = run(__file__, {**common, "stretch": stretch}, arguments.ranks)
        rows.append(row_of(found, stretch))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def main() -> None:
    arguments = parse_arguments()
    if arguments.case:
        measure(arguments.case)
        return
    rows, paper = measure_all(arguments), on_paper()
    path = save_results(
        arguments.out, "sequence_parallel", arguments.device, {"title": TITLE, "rows": rows, "on_paper": paper}
    )
    print(f"\n{table(rows)}\n\n{paper_table(paper)}\nwrote {path}")


if __name__ == "__main__":
    run_main(main, tuned=False)
