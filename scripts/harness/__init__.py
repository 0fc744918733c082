"""The frame of every experiment: its model and its method, from the flags, and the loop and the trial around it.

`experiment.py` is the loop, and what an experiment has to say to run in it; `documents.py` the work on single texts;
`journal.py` the lines of those that are done. `model_arguments.py` and `methods.py` are flags, `model.py` loads what
they say. What only one experiment needs lies in its own folder.
"""
