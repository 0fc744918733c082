"""The texts and tasks that models are given: where they come from, as which tokens, and how answers are scored.

`get_data.py` opens any corpus, `tasks/registry.py` any task; both read lazily. A corpus more is a file in `sources/`, a
task more one in `tasks/`, a score more one in `metrics/`.
"""
