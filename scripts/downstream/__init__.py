"""Downstream tasks: examples put to the model, and what it answers, scored. `experiment.py` reads top to bottom.

The tasks are in `data/tasks/`, one file each: a task more needs nothing here. A number more in results.json is added in
`report.py`, a flag in `arguments.py`.
"""

SCRIPT = "eval_downstream_tasks"
