"""The commands, and below them what only they share: a folder for each experiment, and the harness around all.

A command reads its flags and runs its experiment; torch is imported after that, so that a wrong flag answers at once.
An experiment more is a folder with `experiment.py`, and a command here that parses its flags.
"""
