"""Perplexity against position: whole documents. `experiment.py` reads top to bottom.

Its flags are those of models, methods, documents and reading, which `reading.py` does, in chunks where they are long. A
number more in results.json is added in `report.py`, a field more of a document's line in `scorer.py`.
"""

SCRIPT = "eval_ppl_deepspeed"
