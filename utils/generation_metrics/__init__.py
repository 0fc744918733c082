"""BLEU and ROUGE of generated texts, with the numbers that the `evaluate` library's metrics of these names give."""

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
METRICS = ("bleu", *ROUGE_TYPES)
"""Named here, where nothing heavy is imported."""
