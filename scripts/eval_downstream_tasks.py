"""Downstream tasks: prompts with an answer hidden somewhere, generation, and a score against reference answers.

deepspeed scripts/eval_downstream_tasks.py --use_lambda_attention --dataset passkey_retrieval --max_length 16384
"""

import sys
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.arguments import Truncation
from scripts.downstream import SCRIPT
from scripts.downstream.arguments import TaskPlan, add_task_arguments, published_flags
from scripts.generation.arguments import Generation, add_generation_arguments
from scripts.harness.methods import add_method_arguments
from scripts.harness.model_arguments import add_lambda_arguments, add_model_arguments, model_plan
from scripts.harness.prefill_arguments import PrefillPlan, add_prefill_arguments
from scripts.harness.protocol import add_protocol_arguments
from scripts.harness.sequence_arguments import add_sequence_arguments
from utils.arguments import HarnessParser, add_run_arguments, plan_of, run_plan
from utils.program import run_main


def parse_arguments() -> Namespace:
    """The command line, checked."""
    parser = HarnessParser(__doc__.splitlines()[0])
    add_model_arguments(parser)
    add_method_arguments(parser, SCRIPT)
    add_lambda_arguments(parser)
    add_task_arguments(parser)
    add_generation_arguments(parser, max_generation_length=None)
    add_prefill_arguments(parser)
    add_protocol_arguments(
        parser,
        published_flags,
        "with --percent, answers as long as published and, of RULER, 500 examples, of pass keys, --nominal_length",
    )
    add_sequence_arguments(parser, one_row=True)
    add_run_arguments(parser, log_dir=f"logs/{SCRIPT}")
    return parser.parse_args()


def main() -> None:
    """Answer what is not answered yet, then write and show the results."""
    flags = vars(parse_arguments())
    # torch and Transformers take seconds to import: not for a wrong flag
    from scripts.downstream.experiment import Downstream
    from scripts.harness.experiment import run

    experiment = Downstream(
        model=model_plan(flags),
        task=plan_of(TaskPlan, flags),
        truncation=plan_of(Truncation, flags),
        generation=plan_of(Generation, flags),
        reading=plan_of(PrefillPlan, flags),
        batch_size=flags["batch_size"],
    )
    run(experiment, run_plan(flags))


if __name__ == "__main__":
    run_main(main, resumes=True)
