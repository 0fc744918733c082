"""Scores of one answer against its reference answers, from 0 to 1.

A metric more is a function from an answer and its references to a number, which a task names as its `metric`.
"""
