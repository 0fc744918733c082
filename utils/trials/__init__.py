"""A trial's log dir, written and read in one place: its files, what they hold, and which trials are finished.

`experiments.py` lists the experiments and what the trials of each hold, `files.py` names the files. `trial.py` writes a
log dir; `finished.py` reads it back, checked, and `examples.py` and `nll_trials.py` are views of that, by example and
by position. `nll_by_position.py` and its siblings are the numbers. A file more in a log dir is named in `files.py`, and
read here as well; an experiment more is a record in `experiments.py`.
"""
