"""The commands that measure speed and memory, beside every alternative; `all.sh` runs them, `results/` keeps what came,
of each processor in a folder of its name.

A benchmark more is a file here that saves its rows with `measuring.machine.save_results`, named in `all.sh`, and drawn
by `visualization/benchmark.py`. What several use lies in `measuring/`, what they compare with in `alternatives/`, what
`gpu.py` measures in `gpu_parts/`.
"""
