"""Shared by benchmarks: flags, time and memory taken alike, cases in processes of their own, the machine described.

`timing.py` times in turn, so that a slow minute strikes all alike; `shapes.py` has the models' sizes,
`working_memory.py` measures the memory of one attention layer. A helper moves here once a second benchmark needs it.
"""
