"""BLEU and ROUGE of generated texts, with the numbers that the `evaluate` library's metrics of these names give.

`scores.py` gives all of them with their standard errors, `positions.py` per position. A metric more is an
`offline.OfflineMetric` in a file of its own, named in METRICS and computed in `scores.py`.
"""

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
METRICS = ("bleu", *ROUGE_TYPES)
"""Named here, where nothing heavy is imported."""
