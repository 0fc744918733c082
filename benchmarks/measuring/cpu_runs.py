"""Whole models on the CPU, each case in a process of its own that is prepared as the scripts are: what these share."""

import argparse
import os
from argparse import Namespace
from collections.abc import Iterable
from itertools import product
from pathlib import Path

from transformers import PreTrainedModel

from benchmarks.measuring.arguments import DTYPES, add_branch_arguments, add_out_argument
from benchmarks.measuring.children import Case, add_case_argument, measure_apart
from benchmarks.measuring.machine import save_results
from benchmarks.measuring.model_reading import LABELS, load
from models.lambda_attention import LambdaConfig
from models.loading.sample import SAMPLE_MODEL
from models.model_base import convert_model
from utils.arguments import HarnessParser
from utils.errors import UserError
from utils.program import SPINS, prepare_processor

COMPILES_ANEW = {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
"""What an earlier run has compiled would be loaded in its place."""


def cpu_run_parser(description: str) -> HarnessParser:
    """A parser with --model, --dtypes, the branches of Λ-attention, --out and --case."""
    parser = HarnessParser(description)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.set_defaults(device="cpu")
    parser.add_argument(
        "--model", default=SAMPLE_MODEL, metavar="NAME", help="as scripts take it (default: the sample)"
    )
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=DTYPES,
        default=["float32", "bfloat16"],
        help="precisions (default: both of these)",
    )
    add_branch_arguments(parser, {"cpu": 2048}, 10)
    add_out_argument(parser)
    add_case_argument(parser)
    return parser


def settings_of(arguments: Namespace, *names: str) -> Case:
    """What all cases have: the model, these arguments, and Λ-attention."""
    config = LambdaConfig(arguments.local_branch, arguments.global_branch, arguments.limit_distance)
    return {name: getattr(arguments, name) for name in ("model", *names)} | {"lambda_attention": config.to_dict()}


def measure_cases(
    script: str, methods: Iterable[str], settings: Case, heading: Case, arguments: Namespace
) -> tuple[list[Case], Path]:
    """Measure each method in each precision, and write what there is after each: the rows, and the file they are in.

    heading: what stands before settings and rows in it. What a case compiles is compiled anew. One for which memory
    runs out is said and left out; raises UserError where that is all of them, and writes nothing.
    """
    name, rows, path = LABELS.get(settings["model"], Path(settings["model"]).name), [], None
    for dtype, method in product(arguments.dtypes, methods):
        case = {**settings, "dtype": dtype, "method": method}
        found = measure_apart(script, case, env=os.environ | SPINS | COMPILES_ANEW)
        if found is None:
            print(f"{method}, {dtype}: there is not enough memory", flush=True)
            continue
        rows.append({"panel": f"{name}, {dtype}", "method": method, "length": settings["length"], **found})
        path = save_results(arguments.out, Path(script).stem, "cpu", {**heading, **settings, "rows": rows})
    if path is None:
        raise UserError(f"--length {arguments.length}: memory ran out, so give a smaller one")
    return rows, path


def converted_model(case: Case) -> PreTrainedModel:
    """The case's model with Λ-attention, in a process that is then prepared for it."""
    prepare_processor()
    return convert_model(load(case["model"], case["dtype"], "cpu"), LambdaConfig.from_dict(case["lambda_attention"]))
