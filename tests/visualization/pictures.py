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


def assert_nothing_overlaps(figure, slack=1):
    """Titles, labels and ticks of panels, the heading and the legend are beside each other and within the picture.

    slack: pixels by which boxes may overlap, of 300 an inch: ticks may change once their panel has its size.
    """
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    boxes += [legend.get_window_extent() for legend in figure.legends]
    boxes += [] if figure._suptitle is None else [figure._suptitle.get_window_extent()]
    for place, box in enumerate(boxes):
        assert box.x0 > -1 and box.y0 > -1 and box.x1 < figure.bbox.x1 + 1 and box.y1 < figure.bbox.y1 + 1
        assert not any(box.overlaps(other.padded(-slack)) for other in boxes[place + 1 :])
