"""Does a static step pay on the CPU? One decoded token of a whole model, by an ordinary forward and by `DecodeGraph`.

python benchmarks/static_step.py [--model smollm2] [--length 2300] [--tokens 40] [--dtypes float32] [--out DIR]

Tokens/s after a random prompt of --length tokens, each way in a process of its own that is prepared as the scripts are;
compiled by torch.compile, it also says what the compiling took, and after how many tokens that is won back from the
ordinary forward. On a GPU model_speed.py and gpu.sh measure captured steps.
"""

import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from benchmarks.measuring.children import Case, answer
from benchmarks.measuring.cpu_runs import converted_model, cpu_run_parser, measure_cases, settings_of
from benchmarks.measuring.model_reading import check_model
from models.assumptions import cache_of, with_cache
from models.decode_graph import DecodeGraph
from utils.arguments import whole_number
from utils.errors import UserError
from utils.program import run_main
from utils.text_tables import as_text

FORWARD, STATIC, COMPILED = "ordinary forward", "static step", "static step, inductor"
BACKENDS = {STATIC: None, COMPILED: "inductor"}
QUANTITIES = {"tokens_per_second": "tokens/s"}
WARM_UPS = 3

Step = Callable[[Tensor], Tensor]


@torch.no_grad()
def measure(case: Case) -> Case:
    """Tokens/s of one way to decode, and the seconds of its first token, in which it may compile."""
    model = converted_model(case)
    prompt = torch.randint(model.config.vocab_size, (1, case["length"]), generator=torch.Generator().manual_seed(0))
    cache = cache_of(model(input_ids=prompt, use_cache=True, logits_to_keep=1))
    step = step_by(case["method"], model, cache)
    begin = time.perf_counter()
    token = step(prompt[:, -1:]).argmax(-1)
    first = time.perf_counter() - begin
    token, _ = timed(step, token, WARM_UPS)
    _, seconds = timed(step, token, case["tokens"])
    return {"tokens_per_second": case["tokens"] / seconds, "first_seconds": first}


def step_by(method: str, model: PreTrainedModel, cache: Cache) -> Step:
    """A function from a token `[1, 1]` to the logits behind it."""
    if method != FORWARD:
        return DecodeGraph(model, cache, backend=BACKENDS[method]).step

    def forward(token: Tensor) -> Tensor:
        return model(input_ids=token, **with_cache(model, cache), use_cache=True).logits

    return forward


def timed(step: Step, token: Tensor, tokens: int) -> tuple[Tensor, float]:
    """The last of so many tokens, and the seconds of all."""
    begin = time.perf_counter()
    for _ in range(tokens):
        token = step(token).argmax(-1)
    return token, time.perf_counter() - begin


def tokens_to_win_back(compiled: Case, forward: Case) -> float | None:
    """The tokens after which a step that had to be compiled has taken no longer in all; None where it is no faster."""
    gained = 1 / forward["tokens_per_second"] - 1 / compiled["tokens_per_second"]
    return (compiled["first_seconds"] - forward["first_seconds"]) / gained if gained > 0 else None


def table(rows: list[Case]) -> str:
    lines = [["", "", "tokens/s", "first token", "won back after"], ""]
    forwards = {row["panel"]: row for row in rows if row["method"] == FORWARD}
    for row in rows:
        forward = forwards.get(row["panel"])
        tokens = tokens_to_win_back(row, forward) if row["method"] == COMPILED and forward else None
        won = f"{tokens:,.0f} tokens" if tokens is not None else ""
        speed = f"{row['tokens_per_second']:.1f}", f"{row['first_seconds']:.2f} s"
        lines.append([row["panel"], row["method"], *speed, won])
    return as_text(lines)


def parse_arguments() -> Namespace:
    parser = cpu_run_parser(__doc__)
    tokens = {"type": whole_number(2), "metavar": "TOKENS"}
    parser.add_argument("--length", default=2300, help="of the prompt (default: %(default)s)", **tokens)
    parser.add_argument("--tokens", default=40, help="to decode (default: %(default)s)", **tokens)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.case:
        answer(measure, arguments.case)
        return
    check_model(arguments.model, "cpu")
    if arguments.length < arguments.global_branch:
        raise UserError(
            f"--length {arguments.length} is shorter than --global_branch {arguments.global_branch}: until all first "
            "tokens are read a static step is an ordinary forward"
        )
    settings = settings_of(arguments, "length", "tokens")
    heading = {"title": "A static step on the CPU", "quantities": QUANTITIES}
    rows, path = measure_cases(__file__, (FORWARD, *BACKENDS), settings, heading, arguments)
    print(f"{table(rows)}\nwrote {path}")


if __name__ == "__main__":
    run_main(main)
