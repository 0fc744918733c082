"""The ground of the harness: what every command stands on, whatever it measures.

`trials/` is a log dir, written and read; `ranks/` the processes that share a job. Beside them are flags, errors, how a
program ends, the console, progress bars, files and tables of text. What belongs to one experiment lies in its folder in
`scripts/`, what belongs to texts in `data/`.
"""
