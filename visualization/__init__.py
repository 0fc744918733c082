"""The commands that draw pictures and write the report, from finished trials; they import nothing of scripts/.

A picture more is a file like `score_by_length.py`: a function `draw` from what was read to a matplotlib Figure, and
flags around it. What several pictures use lies in `drawing/`, the report in `reporting/`.
"""
