"""Perplexity against position: whole documents, one forward each. `experiment.py` reads top to bottom.

Its flags are those of models, methods and documents. A number more in results.json is added in `report.py`, a field
more of a document's line in `scorer.py`.
"""

SCRIPT = "eval_ppl_deepspeed"
