"""Generation at positions of documents, against the text that follows. `experiment.py` reads top to bottom.

`generator.py` generates after any prompts, for downstream tasks too; `positions.py` says after which. A number more in
results.json is added in `report.py`, a flag in `arguments.py`.
"""

SCRIPT = "eval_generation"
