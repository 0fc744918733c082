"""Running a script that draws, and what its figure shows."""

import sys

LONG_LABELS = [
    f"Meta-Llama-3.1-8B-Instruct, {name} with a window of 4,096" for name in ("vanilla", "Λ-attention", "other")
]
"""What a user calls trials, and what is longer than a panel is wide."""


def run_in_process(monkeypatch, script, *arguments):
    monkeypatch.setattr(sys, "argv", ["picture.py", *map(str, arguments)])
    script.main()


def legend_labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def assert_nothing_overlaps(figure):
    """Titles, labels and ticks of panels, the heading and the legend are beside each other and within the picture."""
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    boxes += [legend.get_window_extent() for legend in figure.legends]
    boxes += [] if figure._suptitle is None else [figure._suptitle.get_window_extent()]
    for place, box in enumerate(boxes):
        assert box.x0 > -1 and box.y0 > -1 and box.x1 < figure.bbox.x1 + 1 and box.y1 < figure.bbox.y1 + 1
        assert not any(box.overlaps(other.padded(-1)) for other in boxes[place + 1 :])


def assert_words_are_apart(figure):
    """Titles, names of axes, the heading and the legend do not overlap, and lie within the picture; ticks apart."""
    words = [text for axes in figure.axes for text in (axes.title, axes.xaxis.label, axes.yaxis.label)]
    words += [figure._suptitle, *(text for legend in figure.legends for text in legend.get_texts())]
    boxes = [word.get_window_extent() for word in words if word.get_text()]
    for place, box in enumerate(boxes):
        assert box.x0 > -1 and box.y0 > -1 and box.x1 < figure.bbox.x1 + 1 and box.y1 < figure.bbox.y1 + 1
        assert not any(box.overlaps(other.padded(-1)) for other in boxes[place + 1 :])
