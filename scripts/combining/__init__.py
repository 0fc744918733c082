"""Parts that the commands that combine trials share: joining shards, writing them as one trial, and giving out a table.

`command.py` has their flags. A column more is added where a command makes its records, a format more in
`tables.FORMATS`.
"""
