"""The pictures of a report, drawn and made part of the page."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from visualization.drawing.style import COLUMN_WIDTH, paper_style
from visualization.reporting.kinds import KINDS, Picture
from visualization.reporting.trials import ReportTrial

MOST_SVG_BYTES = 1_000_000  # a picture of so many points is smaller, and shown faster, as pixels
CSS_PIXELS_PER_INCH = 190  # on a screen, pictures that are made for a printed column are about twice as large


@dataclass(frozen=True)
class ShownPicture:
    """A picture as data of the page. width: in CSS pixels, before the page narrows it. broad: of several panels."""

    heading: str
    reading: str
    labels: list[str]
    source: str
    width: int
    broad: bool


def draw_pictures(
    trials: Sequence[ReportTrial], pretraining_length: int | None = None, by_method: bool = False
) -> list[ShownPicture]:
    """The pictures of each kind and topic, in the order of KINDS, each of all the trials that it can show.

    pretraining_length: to mark instead of the trials' own. by_method: whether trials of one method are called by it,
    and have one line, or go by their labels.
    """
    shown = []
    for script, kind in KINDS.items():
        own = [trial for trial in trials if trial.script == script]
        for topic in dict.fromkeys(kind.topic(trial.evidence) for trial in own):
            group = [trial for trial in own if kind.topic(trial.evidence) == topic]
            for picture in kind.pictures:
                drawn = [trial for trial in group if picture.shows(trial.evidence)]
                if drawn:
                    together = kind.together([trial.evidence for trial in drawn], by_method)
                    with paper_style():
                        figure = picture.draw(together, pretraining_length=pretraining_length)
                        shown.append(_shown(picture, topic, drawn, figure))
    return shown


def _shown(picture: Picture, topic: str, trials: Sequence[ReportTrial], figure: Figure) -> ShownPicture:
    return ShownPicture(
        heading=f"{picture.heading}: {topic}" if topic else picture.heading,
        reading=picture.reading,
        labels=list(dict.fromkeys(trial.label for trial in trials)),
        source=data_uri(figure),
        width=round(figure.get_figwidth() * CSS_PIXELS_PER_INCH),
        broad=figure.get_figwidth() > COLUMN_WIDTH,
    )


def data_uri(figure: Figure) -> str:
    """The figure as SVG, or as PNG where it would be larger than MOST_SVG_BYTES; call it within paper_style()."""
    content, kind = _encode(figure, "svg", {"Date": None}), "svg+xml"
    if len(content) > MOST_SVG_BYTES:
        content, kind = _encode(figure, "png", {}), "png"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _encode(figure: Figure, form: str, metadata: dict[str, None]) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format=form, metadata=metadata)
    return picture.getvalue()
