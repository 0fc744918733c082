"""How fast is llama.cpp on the same file, text and threads, beside vanilla and Λ-attention as they run here?

python benchmarks/llama_cpp.py [--model smollm2] [--lengths 2048 8192 16384] [--dtypes float32 bfloat16] [--out DIR]

llama.cpp comes with an optional package, which is compiled for this processor where it is installed:

pip install llama-cpp-python==0.3.36

It computes with the quantized weights of the .gguf file and keeps a float16 cache, once without and once with its flash
attention; ours have the same weights in float32 or bfloat16. Perplexity is the NLL of every token but the first, from
the logits of all: one forward of ours; batches of 512 tokens of llama.cpp's, whose logits torch makes NLLs of. A prompt
is the same text with the logits of its last token alone, behind which tokens are taken greedily. Each method reads all
lengths in a process of its own; a round is one process of each, and the median of the rounds counts. llama.cpp attends
to every token: its NLL is to be that of vanilla at all lengths, as far as the precision of its products and cache goes.
"""

import argparse
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Python puts the folder of a script first, in which `import llama_cpp` would find this file and not the package.
sys.path[:] = [str(ROOT), *(path for path in sys.path if Path(path).resolve() != ROOT / "benchmarks")]

import torch
from torch import Tensor

from benchmarks.alternatives.llama_cpp_model import LlamaCppModel, need_llama_cpp
from benchmarks.measuring.arguments import DTYPES, add_out_argument
from benchmarks.measuring.children import Case, add_case_argument, answer, measure_case
from benchmarks.measuring.machine import save_results
from benchmarks.measuring.model_reading import LABELS, load
from benchmarks.measuring.text_reading import QUANTITIES, OwnModel, TextModel, read_text
from benchmarks.measuring.timing import Timing
from data.arguments import CorpusPlan, load_corpus
from data.tokenization import encode_pieces
from models.lambda_attention import LambdaConfig
from models.loading.pretrained import load_tokenizer
from models.loading.sample import SAMPLE_MODEL, sample_gguf
from models.loading.source import find_source
from models.model_base import convert_model
from utils.arguments import HarnessParser, whole_number
from utils.errors import UserError
from utils.program import prepare_processor, run_main
from utils.text_tables import Row, as_text

PEERS = {"llama.cpp": False, "llama.cpp, flash attention": True}
VANILLA, OURS = "vanilla", "Λ-attention"
WARM_UP = 600
"""Tokens at most of the text that is read before those that are measured."""


def gguf_file(model: str) -> Path:
    """The .gguf file that --model names, or that the sample was made from. Raises UserError where there is none."""
    source = find_source("--model", model)
    if model == SAMPLE_MODEL:
        return sample_gguf()
    if source.gguf_file is None:
        raise source.error(f"llama.cpp reads a .gguf file, so give one, or {SAMPLE_MODEL}")
    return Path(source.location) / source.gguf_file


def text_tokens(model: str, dataset: str, length: int) -> tuple[str, Tensor]:
    """The id and the beginning, int64 [length], of the first document that has so many tokens, special ones included.

    Raises UserError where none has.
    """
    tokenizer = load_tokenizer(find_source("--model", model))
    for document in load_corpus(CorpusPlan(dataset)):
        ids = encode_pieces(tokenizer, document.pieces(), length).input_ids
        if len(ids) == length:
            return document.id, torch.tensor(ids)
    raise UserError(f"--lengths {length}: no document of --dataset {dataset} has so many tokens, so give a smaller one")


def open_model(case: Case) -> TextModel:
    if "flash" in case:
        positions = max(case["lengths"]) + case["tokens"]
        return LlamaCppModel(gguf_file(case["model"]), positions, torch.get_num_threads(), case["flash"])
    prepare_processor()  # memory as our scripts have it; llama.cpp's process stays as the system has it
    model = load(case["model"], case["dtype"], "cpu")
    if case["lambda_attention"] is not None:
        convert_model(model, LambdaConfig.from_dict(case["lambda_attention"]))
    return OwnModel(model)


@torch.no_grad()
def measure(case: Case) -> Case:
    """One method at all lengths, in this process, after a warm-up: a reading for each; of llama.cpp what it is, too."""
    model = open_model(case)
    _, ids = text_tokens(case["model"], case["dataset"], max(case["lengths"]))
    read_text(model, ids[:WARM_UP], 1)
    found: Case = {"readings": [read_text(model, ids[:length], case["tokens"]) for length in case["lengths"]]}
    return {**found, "library": model.describe()} if isinstance(model, LlamaCppModel) else found


def cases_of(arguments: Namespace) -> dict[str, Case]:
    """What is measured, by the methods' names."""
    settings = {name: getattr(arguments, name) for name in ("model", "dataset", "lengths", "tokens")}
    shared = {"device": "cpu", **settings}
    cases = {name: {**shared, "flash": flash} for name, flash in PEERS.items()}
    for dtype in arguments.dtypes:
        for name, config in ((VANILLA, None), (OURS, branches(arguments).to_dict())):
            cases[f"{name}, {dtype}"] = {**shared, "dtype": dtype, "lambda_attention": config}
    return cases


def branches(arguments: Namespace) -> LambdaConfig:
    return LambdaConfig(arguments.local_branch, arguments.global_branch, arguments.local_branch)


def measure_rounds(arguments: Namespace, found: dict[str, list[Case]]) -> Iterator[None]:
    """Adds to what was found of each method, a round at a time, in which each is measured once."""
    cases = cases_of(arguments)
    for _ in range(arguments.repeats):
        for name, case in list(cases.items()):
            measured = measure_case(__file__, measure, case)
            if measured is None:
                print(f"{name}: there is not enough memory", flush=True)
                del cases[name]
                continue
            found.setdefault(name, []).append(measured)
            speeds = [f"{reading['perplexity_speed']:,.1f}" for reading in measured["readings"]]
            print(f"{name}: {' '.join(speeds)} tokens/s of perplexity", flush=True)
        yield


def rows_of(panel: str, lengths: list[int], found: dict[str, list[Case]]) -> list[Case]:
    """A row for each length and method: its NLL, which rounds do not change, and its speeds over the rounds."""
    rows = []
    for place, length in enumerate(lengths):
        for method, measured in found.items():
            readings = [one["readings"][place] for one in measured]
            speeds = {name: Timing.of([reading[name] for reading in readings]).to_dict() for name in QUANTITIES}
            rows.append({"panel": panel, "method": method, "length": length, "nll": readings[0]["nll"], **speeds})
    return rows


def table(rows: list[Case]) -> str:
    """The rows, length by length."""
    lines: list[Row | str] = [["method", "NLL", *QUANTITIES.values()]]
    length = None
    for row in rows:
        if row["length"] != length:
            length = row["length"]
            lines.append(f"{length:,} tokens")
        lines.append([row["method"], f"{row['nll']:.4f}", *(f"{row[name]['median']:,.1f}" for name in QUANTITIES)])
    return as_text(lines)


def results_of(arguments: Namespace, text: str, found: dict[str, list[Case]]) -> Case:
    """Results to save. text: the id of the document that was read."""
    panel = LABELS.get(arguments.model, Path(arguments.model).name)
    libraries = [one["library"] for name in PEERS for one in found.get(name, [])]
    return {
        "title": "llama.cpp beside Λ-attention",
        "quantities": QUANTITIES,
        "rows": rows_of(panel, arguments.lengths, found),
        "llama_cpp": {"file": gguf_file(arguments.model).name, **(libraries[0] if libraries else {})},
        "text": text,
        "decoded_tokens": arguments.tokens,
        "lambda_attention": branches(arguments).to_dict(),
    }


def parse_arguments() -> Namespace:
    parser = HarnessParser(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    tokens = {"type": whole_number(1), "metavar": "TOKENS"}
    parser.add_argument(
        "--model", default=SAMPLE_MODEL, metavar="NAME", help="the sample or a .gguf file (default: %(default)s)"
    )
    parser.add_argument("--dataset", default="plays", metavar="NAME", help="as scripts take it (default: %(default)s)")
    parser.add_argument(
        "--lengths",
        nargs="+",
        type=whole_number(2),
        default=[2048, 8192, 16_384],
        metavar="TOKENS",
        help="of the text (default: 2048 8192 16384)",
    )
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=DTYPES,
        default=["float32", "bfloat16"],
        help="precisions of ours (default: float32 bfloat16)",
    )
    parser.add_argument("--tokens", default=32, help="decoded after a prompt (default: %(default)s)", **tokens)
    parser.add_argument("--local_branch", default=2048, help="nearest tokens (default: %(default)s)", **tokens)
    parser.add_argument(
        "--global_branch",
        type=whole_number(0),
        default=10,
        metavar="TOKENS",
        help="first tokens (default: %(default)s)",
    )
    parser.add_argument(
        "--repeats",
        type=whole_number(1),
        default=3,
        metavar="N",
        help="rounds; the median counts (default: %(default)s)",
    )
    add_out_argument(parser)
    add_case_argument(parser)
    parser.checks.append(_in_order)
    return parser.parse_args()


def _in_order(arguments: Namespace) -> None:
    arguments.lengths, arguments.dtypes = sorted(set(arguments.lengths)), list(dict.fromkeys(arguments.dtypes))


def main() -> None:
    arguments, found = parse_arguments(), {}
    if arguments.case:
        answer(measure, arguments.case)
        return
    need_llama_cpp()
    gguf_file(arguments.model)
    text, _ = text_tokens(arguments.model, arguments.dataset, arguments.lengths[-1])
    for _ in measure_rounds(arguments, found):
        results = results_of(arguments, text, found)
        path = save_results(arguments.out, "llama_cpp", "cpu", results)
    print(f"\n{table(results['rows'])}\nwrote {path}")


if __name__ == "__main__":
    run_main(main, tuned=False)  # what is prepared for ours would have llama.cpp's threads sleep at each barrier
