"""Attention of one new token, and the bounded cache that it reads: a ring of the window, and the first tokens.

`step.py` is what a step computes, on tensors of fixed shape so that a CUDA graph can hold it; `cache.py` keeps what it
reads between steps, and `cache_state.py` copies, measures and restores a whole model's cache.
"""
