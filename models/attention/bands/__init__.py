"""Attention to all earlier keys, each felt at a position that a method gives it: SelfExtend, Dual Chunk Attention,
ReRoPE, and Λ with the middle.

A method is a list of bands (`band.py`), as `methods.py` writes them from their papers; `attend.py` attends to any list.
A method more is a function there, its name in `settings.REMAPPINGS` and its parameters in `config.py`.
"""
