"""The commands that draw pictures and write the report, from finished trials; they import nothing of scripts/.

A picture more is a file like `drawing/scores.py`, a function `draw` from what was read to a matplotlib Figure, and a
command like `score_by_length.py`, flags around it. The report lies in `reporting/`.
"""
