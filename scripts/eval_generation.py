"""Generation against position: at each one the text so far is the prompt, what follows it the reference.

deepspeed scripts/eval_generation.py --use_lambda_attention --dataset plays --evaluate_positions 4096 8192
"""

import sys
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.arguments import CorpusPlan, Truncation, add_data_arguments, add_document_arguments
from scripts.generation import SCRIPT
from scripts.generation.arguments import (
    Generation,
    PositionPlan,
    add_generation_arguments,
    add_position_arguments,
)
from scripts.harness.methods import add_method_arguments
from scripts.harness.model_arguments import add_lambda_arguments, add_model_arguments, model_plan
from scripts.harness.prefill_arguments import PrefillPlan, add_prefill_arguments
from scripts.harness.sequence_arguments import add_sequence_arguments
from utils.arguments import HarnessParser, add_run_arguments, plan_of, run_plan
from utils.program import run_main


def parse_arguments() -> Namespace:
    """The command line, checked."""
    parser = HarnessParser(__doc__.splitlines()[0])
    add_model_arguments(parser)
    add_method_arguments(parser, SCRIPT)
    add_lambda_arguments(parser)
    add_data_arguments(parser)
    add_document_arguments(parser)
    add_position_arguments(parser)
    add_generation_arguments(parser)
    add_prefill_arguments(parser)
    add_sequence_arguments(parser)
    add_run_arguments(parser, log_dir=f"logs/{SCRIPT}")
    return parser.parse_args()


def main() -> None:
    """Generate what is not generated yet, then write and show the results."""
    flags = vars(parse_arguments())
    # torch and Transformers take seconds to import: not for a wrong flag
    from scripts.generation.experiment import GenerationByPosition
    from scripts.harness.experiment import run

    experiment = GenerationByPosition(
        model=model_plan(flags),
        corpus=plan_of(CorpusPlan, flags),
        truncation=plan_of(Truncation, flags),
        positions=plan_of(PositionPlan, flags),
        generation=plan_of(Generation, flags),
        reading=plan_of(PrefillPlan, flags),
        batch_size=flags["batch_size"],
        strict_data=flags["strict_data"],
    )
    run(experiment, run_plan(flags))


if __name__ == "__main__":
    run_main(main, resumes=True)
