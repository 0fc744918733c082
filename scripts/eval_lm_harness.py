"""Tasks of lm-evaluation-harness: RULER, LongBench, BABILong, or YAML files of your own, put to a converted model.

python scripts/eval_lm_harness.py --method lm_infinite --tasks long_texts --include_path my_tasks
"""

import sys
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.harness.methods import add_method_arguments
from scripts.harness.model_arguments import add_lambda_arguments, add_model_arguments, model_plan
from scripts.harness.prefill_arguments import PrefillPlan, add_prefill_arguments
from scripts.lm_harness import SCRIPT
from scripts.lm_harness.arguments import TasksPlan, add_lm_eval_arguments
from scripts.lm_harness.library import require_lm_eval
from utils.arguments import HarnessParser, add_run_arguments, plan_of, run_plan
from utils.program import run_main


def parse_arguments() -> Namespace:
    """The command line, checked."""
    parser = HarnessParser(__doc__.splitlines()[0])
    add_model_arguments(parser)
    add_method_arguments(parser, SCRIPT)
    add_lambda_arguments(parser)
    add_lm_eval_arguments(parser)
    add_prefill_arguments(parser)
    add_run_arguments(parser, log_dir=f"logs/{SCRIPT}")
    return parser.parse_args()


def main() -> None:
    """Do the tasks that are not done yet, then write and show the results."""
    flags = vars(parse_arguments())
    require_lm_eval()
    # torch, Transformers and lm-eval take seconds to import: not for a wrong flag
    from scripts.harness.experiment import run
    from scripts.lm_harness.experiment import LmHarness

    experiment = LmHarness(
        model=model_plan(flags),
        tasks=plan_of(TasksPlan, flags),
        reading=plan_of(PrefillPlan, flags),
        batch_size=flags["batch_size"],
        no_captured_step=flags["no_captured_step"],
    )
    run(experiment, run_plan(flags))


if __name__ == "__main__":
    run_main(main, resumes=True)
