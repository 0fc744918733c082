"""Perplexity against position: the NLL of every token but the first, one forward per document.

deepspeed scripts/eval_ppl_deepspeed.py --use_lambda_attention --dataset plays --max_length 16384
"""

import sys
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.arguments import add_data_arguments, add_document_arguments
from scripts.harness.methods import add_method_arguments
from scripts.harness.model_arguments import add_lambda_arguments, add_model_arguments
from scripts.perplexity import SCRIPT
from utils.arguments import HarnessParser, add_run_arguments
from utils.program import run_main


def parse_arguments() -> Namespace:
    """The command line, checked."""
    parser = HarnessParser(__doc__.splitlines()[0])
    add_model_arguments(parser)
    add_method_arguments(parser, SCRIPT)
    add_lambda_arguments(parser)
    add_data_arguments(parser)
    add_document_arguments(parser)
    add_run_arguments(parser, log_dir=f"logs/{SCRIPT}")
    return parser.parse_args()


def main() -> None:
    """Score what is not scored yet, then write and show the results."""
    arguments = parse_arguments()
    # torch and Transformers take seconds to import: not for a wrong flag
    from scripts.harness.evaluation import evaluate
    from scripts.perplexity.experiment import experiment
    from scripts.perplexity.report import describe

    evaluate(SCRIPT, arguments, experiment, describe)


if __name__ == "__main__":
    run_main(main, resumes=True)
