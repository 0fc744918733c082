"""What every experiment runs in: its model and its method, from the flags, and the trial around it.

`model_arguments.py` and `methods.py` are flags, `model.py` loads what they say, `evaluation.py` opens and finishes the
trial, and `journal.py` keeps the lines of examples. What only one experiment needs lies in its own folder.
"""
