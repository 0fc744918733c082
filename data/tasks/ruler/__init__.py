"""The tasks of RULER (Hsieh et al., 2024), a file for each group of them; `--dataset ruler/NAME` takes one.

A task more is a `Task` named "ruler/..." in one of these files, added to `data.tasks.registry.TASKS`.
"""

PUBLISHED = {"num_samples": 500}
"""Flags of the protocol of RULER's published numbers."""
