"""Streaming perplexity: endless streams through a bounded cache, with checkpoints. `experiment.py` is the way in.

`streams.py` is what is read, `run.py` reads it over ranks, `checkpoints.py` keeps it. A number more in results.json is
added in `report.py`, a flag in `arguments.py`.
"""

SCRIPT = "eval_infinite_ppl"
