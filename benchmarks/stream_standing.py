"""The standing of a trial of scripts/eval_infinite_ppl.py, running or not: tokens, speed and memory, in one line.

python benchmarks/stream_standing.py LOG_DIR
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.errors import UserError
from utils.program import run_main
from utils.trials.files import CHECKPOINT
from utils.trials.trial import Trial

NEWEST_CHUNKS = 20


def standing(log_dir: Path) -> str:
    """The line. Raises UserError where there is no stream in `log_dir`."""
    trial = Trial(log_dir)
    config, chunks = trial.config, trial.samples()
    length = config and config["arguments"].get("streaming_length")
    if not length:
        raise UserError(f"{log_dir} holds no stream's trial: give the --log_dir of one that has begun")
    if not chunks:
        return f"{log_dir}: nothing of {length:,} tokens read yet"
    newest = chunks[-NEWEST_CHUNKS:]
    speed = sum(chunk["tokens"] for chunk in newest) / sum(chunk["seconds"] for chunk in newest)
    memory = max(chunk["memory_bytes"] or 0 for chunk in newest)
    end = chunks[-1]["end"]
    outcome = "finished" if trial.results is not None else f"a restart goes on from {checkpointed(log_dir, chunks):,}"
    return (
        f"{log_dir}: {end:,} of {length:,} tokens ({end / length:.1%}), {speed:,.0f} tokens/s and "
        f"{memory / 2**30:.2f} GiB in the newest {len(newest)} chunks, {outcome}"
    )


def checkpointed(log_dir: Path, chunks: list[dict]) -> int:
    """The position of the newest checkpoint, whose folder is named by the number of chunks."""
    numbers = [path.name.removeprefix(CHECKPOINT) for path in log_dir.glob(f"{CHECKPOINT}*")]
    done = max((int(number) for number in numbers if number.isdecimal()), default=0)
    return chunks[min(done, len(chunks)) - 1]["end"] if done and chunks else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log_dir", type=Path, metavar="LOG_DIR")
    print(standing(parser.parse_args().log_dir))


if __name__ == "__main__":
    run_main(main)
