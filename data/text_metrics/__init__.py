"""BLEU and ROUGE of generated texts, with the numbers that the `evaluate` library's metrics of these names give.

`scores.py` gives all of them with their standard errors, `positions.py` per position. A metric more is an
`offline.OfflineMetric` in a file of its own, named in METRICS and computed in `scores.py`.
"""

from utils.text_tables import counted

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
METRICS = ("bleu", *ROUGE_TYPES)
UNSEEN = "unseen_by_rouge"
"""Beside the scores: how many references ROUGE sees less than half of. Named here, where nothing heavy is imported."""


def describe_unseen(count: int) -> list[str]:
    """A line that warns of references ROUGE does not see, or none."""
    if not count:
        return []
    return [
        "warning: ROUGE knows the letters a-z and digits alone and sees less than half of "
        f"{counted(count, 'reference')}, and BLEU takes a text without blanks as one word: they mean nothing there"
    ]
