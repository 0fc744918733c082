"""Tasks of lm-evaluation-harness: lm-eval makes the requests and the scores, the model is loaded and read as elsewhere.

`experiment.py` reads top to bottom, one task of lm-eval being a piece. `tasks.py` finds tasks, `language_model.py` is
the class that lm-eval asks, `scorers.py` how requests are read, `report.py` results.json. lm-eval is an extra, which
`library.py` asks for; only the modules behind `experiment.py` import it.
"""

SCRIPT = "eval_lm_harness"
