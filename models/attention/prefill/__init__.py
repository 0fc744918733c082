"""Attention of many new tokens: a segment of queries at a time, with its window and the first tokens.

`rolling_window.py` cuts the tokens into segments and hands each to a backend. A backend more is a function from a
`Segment` to its output, named in `backends.BACKENDS` and in `settings.BACKENDS`.
"""
