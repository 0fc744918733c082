"""Why a model fails at length, or does not: its attention logits, their entropy, and where the first tokens live.

deepspeed scripts/diagnose.py --model smollm2 --dataset plays --max_data_num 2 --max_length 16384
"""

import sys
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.arguments import CorpusPlan, Truncation, add_data_arguments, add_document_arguments
from scripts.diagnosis import SCRIPT
from scripts.diagnosis.arguments import DiagnosisPlan, add_diagnosis_arguments
from scripts.harness.methods import add_method_arguments
from scripts.harness.model_arguments import add_lambda_arguments, add_model_arguments, model_plan
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
    add_diagnosis_arguments(parser)
    add_run_arguments(parser, log_dir=f"logs/{SCRIPT}")
    return parser.parse_args()


def main() -> None:
    """Measure what is not measured yet, then write and show the results."""
    flags = vars(parse_arguments())
    # torch and Transformers take seconds to import: not for a wrong flag
    from scripts.diagnosis.experiment import Diagnosis
    from scripts.harness.experiment import run

    experiment = Diagnosis(
        model=model_plan(flags),
        corpus=plan_of(CorpusPlan, flags),
        truncation=plan_of(Truncation, flags),
        diagnosis=plan_of(DiagnosisPlan, flags),
        batch_size=flags["batch_size"],
        strict_data=flags["strict_data"],
    )
    run(experiment, run_plan(flags))


if __name__ == "__main__":
    run_main(main, resumes=True)
