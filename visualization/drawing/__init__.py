"""The pictures, one a file, and what they share: their looks, curves, and the trials as they are drawn.

`entropy.py`, `logits.py`, `mass.py`, `projection.py`, `nll.py`, `scores.py`, `heatmap.py` and `costs.py` each have a
`draw` that gives a figure, for the command of that picture and for a report; a picture that only its command draws may
stay there. `style.py` has widths, colours, ticks and how a picture is written, `legend.py` the last strokes;
`curves.py` and its siblings make curves of numbers; `diagnosis.py` and `methods.py` read what is drawn.
"""
