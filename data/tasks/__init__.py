"""Downstream tasks: each file makes, or reads, the examples of one task and says how answers are scored.

A task more is a `task.Task` in a file of its own, named in `registry.TASKS`; `generated.py` and `json_lines.py` help
with examples that are drawn, or read from a file.
"""
