"""A rank of a small job, as a process of its own: `python rank.py TIMEOUT ROLE FOLDER STARTED`.

Its roles: "computes" for LONG seconds before it answers, for so many seconds, or "answers" at once. It says what it
does. FOLDER: of log.txt, and where ranks that are ready to join leave a file. STARTED: how many of those it waits for.
"""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from utils.program import run_main

LONG = 100.0


def main() -> None:
    from utils.ranks.runtime import joined_ranks

    timeout, role, folder, started = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    (folder / f"ready{os.environ['RANK']}").touch()
    while len(list(folder.glob("ready*"))) < started:  # imports take seconds, and many more on a busy machine
        time.sleep(0.05)
    with joined_ranks(0, timeout) as runtime, runtime.console.logging_errors():
        if runtime.is_main:
            runtime.console.log_to(folder / "log.txt")
        print("joined", flush=True)
        if role != "answers":
            time.sleep(LONG if role == "computes" else float(role))
        runtime.gather(1)
        print("gathered", flush=True)


if __name__ == "__main__":
    run_main(main)
