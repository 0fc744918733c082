"""Parts that pictures share: their looks, curves, and the trials as they are drawn.

`style.py` has widths, colours, ticks and how a picture is written; `curves.py` and its siblings make curves of numbers;
`diagnosis.py` and `methods.py` read what is drawn. A look that a second picture needs moves here.
"""
