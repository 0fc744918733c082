"""The name under which `make bench` keeps what this machine gives: of its processor, or of its card.

python benchmarks/machine_name.py [--device cuda]     amd_epyc_25_17 for an AMD EPYC of family 25, model 17
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring.arguments import add_device_argument
from benchmarks.measuring.machine import machine_name
from utils.arguments import HarnessParser
from utils.program import run_main


def main() -> None:
    parser = HarnessParser(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_device_argument(parser)
    print(machine_name(parser.parse_args().device))


if __name__ == "__main__":
    run_main(main, tuned=False)  # nothing is computed
