"""Downstream tasks: prompts with an answer hidden somewhere, generation, and a score against reference answers.

deepspeed scripts/eval_downstream_tasks.py --use_lambda_attention --dataset passkey_retrieval --max_length 16384
"""

import sys
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.downstream import SCRIPT
from scripts.downstream.arguments import add_task_arguments
from scripts.generation.arguments import add_generation_arguments
from scripts.harness.methods import add_method_arguments
from scripts.harness.model_arguments import add_lambda_arguments, add_model_arguments
from utils.arguments import HarnessParser, add_run_arguments
from utils.program import run_main


def parse_arguments() -> Namespace:
    """The command line, checked."""
    parser = HarnessParser(__doc__.splitlines()[0])
    add_model_arguments(parser)
    add_method_arguments(parser, SCRIPT)
    add_lambda_arguments(parser)
    add_task_arguments(parser)
    add_generation_arguments(parser, max_generation_length=None)
    add_run_arguments(parser, log_dir=f"logs/{SCRIPT}")
    return parser.parse_args()


def main() -> None:
    """Answer what is not answered yet, then write and show the results."""
    arguments = parse_arguments()
    # torch and Transformers take seconds to import: not for a wrong flag
    from scripts.downstream.experiment import experiment
    from scripts.downstream.report import describe
    from scripts.harness.evaluation import evaluate

    evaluate(SCRIPT, arguments, experiment, describe)


if __name__ == "__main__":
    run_main(main, resumes=True)
