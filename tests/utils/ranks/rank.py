"""A rank of a small job, as a process of its own: `python rank.py TIMEOUT ROLE`.

Its roles: "computes" for LONG seconds before it answers, "answers" at once. It says what it does.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from utils.program import run_main

LONG = 100.0


def main() -> None:
    from utils.ranks.runtime import joined_ranks

    timeout, role = int(sys.argv[1]), sys.argv[2]
    with joined_ranks(0, timeout) as runtime, runtime.console.logging_errors():
        if runtime.is_main and len(sys.argv) > 3:
            runtime.console.log_to(Path(sys.argv[3]))
        print("joined", flush=True)
        if role != "answers":
            time.sleep(LONG if role == "computes" else float(role))
        runtime.gather(1)
        print("gathered", flush=True)


if __name__ == "__main__":
    run_main(main)
