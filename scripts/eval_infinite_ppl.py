"""Streaming perplexity: the NLL of every token but the first of an endless stream, through a bounded cache.

deepspeed scripts/eval_infinite_ppl.py --use_lambda_attention --dataset plays --streaming_length 1000000
"""

import sys
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.arguments import CorpusPlan, add_data_arguments
from scripts.harness.methods import add_method_arguments
from scripts.harness.model_arguments import add_lambda_arguments, add_model_arguments, model_plan
from scripts.harness.protocol import add_protocol_arguments
from scripts.harness.sequence_arguments import add_sequence_arguments
from scripts.streaming import SCRIPT
from scripts.streaming.arguments import StreamPlan, add_stream_arguments
from utils.arguments import HarnessParser, add_run_arguments, plan_of, run_plan
from utils.program import run_main


def parse_arguments() -> Namespace:
    """The command line, checked."""
    parser = HarnessParser(__doc__.splitlines()[0])
    add_model_arguments(parser, longest_text="streaming_length")
    add_method_arguments(parser, SCRIPT)
    add_lambda_arguments(parser, longest_text="streaming_length")
    add_data_arguments(
        parser, seed=0, seed_help="draw the order of the documents from it, anew each pass over them (default: 0)"
    )
    add_stream_arguments(parser)
    add_protocol_arguments(parser, {"document_separator": "none"}, "with --document_separator none")
    add_sequence_arguments(parser)
    add_run_arguments(parser, log_dir=f"logs/{SCRIPT}")
    return parser.parse_args()


def main() -> None:
    """Read what is not read yet, then write and show the results."""
    flags = vars(parse_arguments())
    # torch and Transformers take seconds to import: not for a wrong flag
    from scripts.harness.experiment import run
    from scripts.streaming.experiment import Streaming

    experiment = Streaming(
        model=model_plan(flags),
        corpus=plan_of(CorpusPlan, flags),
        streams=plan_of(StreamPlan, flags),
        strict_data=flags["strict_data"],
    )
    run(experiment, run_plan(flags))


if __name__ == "__main__":
    run_main(main, resumes=True)
