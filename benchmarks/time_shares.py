"""Where does the time of a whole run go on the CPU: to matrix products, to attention, or to neither?

python benchmarks/time_shares.py [--model smollm2] [--length 16384] [--chunk 4096] [--dtypes float32] [--out DIR]

A text is scored in one forward, as scripts/eval_ppl_deepspeed.py does, and a stream chunk by chunk through the cache,
as scripts/eval_infinite_ppl.py does, each in a process of its own that is prepared as those are. Shares are of a run
under torch's profiler: attention is all from projected queries, keys and values to its output, RoPE included; products
are those outside of it; "neither" is the rest, with those of torch's operations that take most of it (compiled passes
of norms and the loss are none). Tokens/s are of a run without the profiler. "of mm" is what the run reaches of the rate
of `torch.mm`, by the operations of its linear layers and of exactly the attended pairs.
"""

import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile
from transformers import PreTrainedModel

from benchmarks.measuring.children import Case, answer
from benchmarks.measuring.cpu_runs import converted_model, cpu_run_parser, measure_cases, settings_of
from benchmarks.measuring.model_reading import check_model
from benchmarks.measuring.shapes import Shape
from benchmarks.measuring.timing import MM, product_cases, product_rate, time_in_turn
from models.attention.inference import InferenceOnly
from models.scoring.nll_scorer import NllScorer
from models.scoring.stream_scorer import StreamScorer
from utils.arguments import whole_number
from utils.program import run_main
from utils.text_tables import as_text

ATTENTION = InferenceOnly.__name__
PRODUCTS = {f"aten::{name}" for name in ("mm", "addmm", "bmm", "baddbmm", "mkldnn_linear")}
MOST_OPERATIONS = 5
QUANTITIES = {"products": "matrix products", "attention": "attention", "neither": "neither"}
RUNS = "text", "stream"


def run_of(case: Case, model: PreTrainedModel) -> Callable[[], Tensor]:
    """What is measured: the NLL of all tokens but the first."""
    ids = torch.randint(model.config.vocab_size, (1, case["length"]), generator=torch.Generator().manual_seed(0))
    if case["method"] == "text":
        scorer = NllScorer(model)
        return lambda: scorer(ids)
    scorer = StreamScorer(model)

    def read() -> Tensor:
        scorer.reset()
        return torch.cat([scorer(chunk) for chunk in ids.split(case["chunk"], dim=1)], 1)

    return read


@torch.no_grad()
def measure(case: Case) -> Case:
    """Tokens/s of one run, its shares of the time, and the share of the rate of products that it reaches."""
    model = converted_model(case)
    run = run_of(case, model)
    run()  # what is made once: tables, the choice of a backend
    seconds = _seconds(run)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        whole = _seconds(run)
    products = product_cases("cpu", getattr(torch, case["dtype"]))
    rate = product_rate(time_in_turn({MM: products[MM]}, "cpu", budget=2.0)[MM])
    flops = linear_flops(model, case["length"]) + attention_flops(model, case)
    return {
        "tokens_per_second": case["length"] / seconds,
        "of_product_rate": flops / seconds / rate,
        **shares(profiled.events(), whole),
    }


def shares(events: list[FunctionEvent], whole: float) -> Case:
    """The shares of QUANTITIES, and the operations, "operations", that take most of what is neither's.

    whole: seconds of the profiled run.
    """
    microseconds, others = Counter(), Counter()
    for event in events:
        above = list(_above(event))
        if event.name == ATTENTION and ATTENTION not in above:
            microseconds["attention"] += event.cpu_time_total
        elif event.name in PRODUCTS and ATTENTION not in above and not PRODUCTS & set(above):
            microseconds["products"] += event.cpu_time_total
        elif ATTENTION not in above and not PRODUCTS & set(above):
            others[event.name.removeprefix("aten::")] += event.self_cpu_time_total
    found = {name: microseconds[name] / 1e6 / whole for name in ("products", "attention")}
    operations = {name: taken / 1e6 / whole for name, taken in others.most_common(MOST_OPERATIONS)}
    return {**found, "neither": 1 - sum(found.values()), "operations": operations}


def _above(event: FunctionEvent) -> Iterator[str]:
    """The names of the operations that called this one."""
    while (event := event.cpu_parent) is not None:
        yield event.name


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def linear_flops(model: nn.Module, length: int) -> int:
    return 2 * length * sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))


def attention_flops(model: PreTrainedModel, case: Case) -> int:
    """Operations over exactly the attended pairs, all layers."""
    config, branches = model.config, case["lambda_attention"]
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = config.num_attention_heads, config.num_key_value_heads, head_dim
    shape = Shape("", *heads, branches["local_branch"], branches["global_branch"])
    return config.num_hidden_layers * shape.flops(case["length"])


def table(rows: list[Case]) -> str:
    lines = [["", "run", "tokens/s", "of mm", *QUANTITIES.values(), "most of neither"], ""]
    for row in rows:
        parts = (f"{100 * row[name]:.1f} %" for name in QUANTITIES)
        operations = ", ".join(f"{name} {100 * share:.1f} %" for name, share in row["operations"].items())
        speed = f"{row['tokens_per_second']:,.0f}", f"{100 * row['of_product_rate']:.0f} %"
        lines.append([row["panel"], row["method"], *speed, *parts, operations])
    return as_text(lines)


def parse_arguments() -> Namespace:
    parser = cpu_run_parser(__doc__)
    tokens = {"type": whole_number(2), "metavar": "TOKENS"}
    parser.add_argument("--length", default=16_384, help="of the text and the stream (default: %(default)s)", **tokens)
    parser.add_argument("--chunk", default=4096, help="of the stream (default: %(default)s)", **tokens)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.case:
        answer(measure, arguments.case)
        return
    check_model(arguments.model, "cpu")
    settings = settings_of(arguments, "length", "chunk")
    heading = {"title": "Where the time of a run goes", "quantities": QUANTITIES}
    rows, path = measure_cases(__file__, RUNS, settings, heading, arguments)
    print(f"{table(rows)}\nwrote {path}")


if __name__ == "__main__":
    run_main(main)
