"""Streaming perplexity: endless streams through a bounded cache, with checkpoints. `experiment.py` is the way in.

`streams.py` is what is read, `scoring.py` scores a chunk of it, `saving.py` has ranks write `checkpoints.py`, and
`summing.py` brings their sums together. `announcing.py` is said before. A number more in results.json is
added in `report.py`, a flag in `arguments.py`.
"""

SCRIPT = "eval_infinite_ppl"
