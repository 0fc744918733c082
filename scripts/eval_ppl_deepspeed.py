"""Perplexity against position: the NLL of every token but the first of each document.

deepspeed scripts/eval_ppl_deepspeed.py --use_lambda_attention --dataset plays --max_length 16384
"""

import sys
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.arguments import CorpusPlan, Truncation, add_data_arguments, add_document_arguments
from scripts.harness.methods import add_method_arguments
from scripts.harness.model_arguments import add_lambda_arguments, add_model_arguments, model_plan
from scripts.harness.prefill_arguments import PrefillPlan, add_prefill_arguments
from scripts.harness.protocol import add_protocol_arguments
from scripts.harness.sequence_arguments import add_sequence_arguments
from scripts.perplexity import SCRIPT
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
    add_prefill_arguments(parser)
    parser.add_argument_group("results").add_argument(
        "--document_mean", action="store_true", help="besides the NLL of all tokens, the mean of the documents' NLL"
    )
    add_protocol_arguments(parser, {"document_mean": True}, "with --document_mean")
    add_sequence_arguments(parser)
    add_run_arguments(parser, log_dir=f"logs/{SCRIPT}")
    return parser.parse_args()


def main() -> None:
    """Score what is not scored yet, then write and show the results."""
    flags = vars(parse_arguments())
    # torch and Transformers take seconds to import: not for a wrong flag
    from scripts.harness.experiment import run
    from scripts.perplexity.experiment import Perplexity

    experiment = Perplexity(
        model=model_plan(flags),
        corpus=plan_of(CorpusPlan, flags),
        truncation=plan_of(Truncation, flags),
        batch_size=flags["batch_size"],
        reading=plan_of(PrefillPlan, flags),
        document_mean=flags["document_mean"],
        strict_data=flags["strict_data"],
    )
    run(experiment, run_plan(flags))


if __name__ == "__main__":
    run_main(main, resumes=True)
