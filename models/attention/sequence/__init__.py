"""One sequence over many ranks: each attends a stretch of it, with the numbers that one rank would have.

`stretches.py` says who needs which keys of whom, `messages.py` sends them, `attend.py` attends a stretch in one layer.
`group.py` is the ranks that read one sequence, and what they agree on before each forward; `reading.py` has a model
read over them, and `caches.py` is for what comes after: a cache that one rank, or each of them, goes on from alone.
Exact, and no rank ever holds the keys of all.
"""
