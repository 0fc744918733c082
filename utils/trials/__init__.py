"""A trial's log dir, written and read in one place: its files, what they hold, and which trials are finished.

`trial.py` writes it; `finished.py`, `examples.py` and `reading.py` read it back, checked; `nll_by_position.py` and its
siblings are the numbers in it. A file more in a log dir is named in `files.py`, and read here as well.
"""
