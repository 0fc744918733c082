"""The report: one HTML page of any trials, with their settings, numbers and pictures.

`kinds.py` says for each script what is shown of it: a picture more is one more `Picture` there, a number more one more
in `numbers.py`. `html.py` fills the template in `page/`.
"""
