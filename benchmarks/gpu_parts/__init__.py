"""The parts of `benchmarks/gpu.py`, one a file: each is a question and the cases that answer it, most valuable first.

`sizes.py` has what is measured, on a GPU and tiny; `case.py` what a case is; `running.py` runs cases within a deadline
and guards each; `report.py` keeps what they found; `targets.py` reads the targets from it. A part more is a file with a
`PART`, named in `every.py`.
"""
