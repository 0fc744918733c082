"""Where the mass of attention falls, of several diagnoses: against length, and by layer at the longest context."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from visualization.drawing.diagnosis import ALL_HEADS, Diagnosis, HeadChoice
from visualization.drawing.legend import finish_figure, mark_pretraining
from visualization.drawing.looks import source_words
from visualization.drawing.style import COLUMN_WIDTH, TEXT_WIDTH, set_panel_title, set_token_ticks

# Told apart in grey by their lightness, and the middle by its hatch.
LOOKS = {
    "first": {"facecolor": "#0072B2"},
    "window": {"facecolor": "#BFDDF2"},
    "middle": {"facecolor": "#D55E00", "hatch": "/////"},
}


def draw(
    trials: Sequence[Diagnosis],
    *,
    choice: HeadChoice = ALL_HEADS,
    pretraining_length: int | None = None,
    title: str | None = None,
) -> Figure:
    """The figure of these trials. Draw and save within paper_style()."""
    figure, panels = _make_panels(len(trials))
    patches = [Patch(edgecolor="white", linewidth=0, **look) for look in LOOKS.values()]
    entries = list(zip(patches, _share_names(trials)))
    for (growing, final), trial in zip(panels, trials):
        _draw_against_length(growing, trial, choice)
        _draw_at_the_end(final, trial, choice)
        for axes in (growing, final):
            axes.set(ylim=(0, 1), ylabel="share of attention")
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
            axes.grid(False)
        set_panel_title(growing, f"{trial.label}: mean over {choice}")
        set_panel_title(final, f"{trial.label}: at {trial.length:,} tokens")
        entries += mark_pretraining([growing], [trial], pretraining_length, zorder=3)
    by_words = {words: artist for artist, words in entries}  # a length that several trials share is told once
    finish_figure(figure, [(artist, words) for words, artist in by_words.items()], title, source_words(trials))
    return figure


def _make_panels(trials: int) -> tuple[Figure, np.ndarray]:
    """Two panels per trial: below each other for one, otherwise in a row for each."""
    rows, columns = (2, 1) if trials == 1 else (trials, 2)
    figure = Figure(figsize=(COLUMN_WIDTH if trials == 1 else TEXT_WIDTH, 1.6 * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False).reshape(trials, 2)


def _share_names(trials: Sequence[Diagnosis]) -> list[str]:
    """Names of first, window and middle, with their sizes where all trials have the same."""
    sizes = {tuple(int(trial.arrays[name]) for name in ("first_tokens", "window")) for trial in trials}
    if len(sizes) > 1:
        return ["first tokens", "window", "middle"]
    first, window = sizes.pop()
    return [f"first {first:,} tokens", f"window of {window:,}", "middle"]


def shares(trial: Diagnosis, choice: HeadChoice) -> dict[str, np.ndarray]:
    """The chosen heads' shares of the mass by key of LOOKS, `[l, h, p]`, mean over documents."""
    return {name: trial.of_heads(trial.arrays[f"mass_{name}_mean"], choice) for name in LOOKS}


def _draw_against_length(axes: Axes, trial: Diagnosis, choice: HeadChoice) -> None:
    reached = trial.arrays["positions"] < trial.length
    lengths = trial.arrays["positions"][reached] + 1
    below = np.zeros(len(lengths))
    for name, values in shares(trial, choice).items():
        above = below + values[..., reached].mean(axis=(0, 1))
        axes.fill_between(lengths, below, above, edgecolor="white", linewidth=0, **LOOKS[name])
        below = above
    axes.set(xlim=(0, trial.length), xlabel="length (tokens)")
    set_token_ticks(axes.xaxis, trial.length)


def _draw_at_the_end(axes: Axes, trial: Diagnosis, choice: HeadChoice) -> None:
    """Stacked bars at the longest context: of layers, or of the heads of one layer."""
    place = int(np.flatnonzero(trial.arrays["positions"] < trial.length)[-1])
    rows = trial.rows(choice)
    if len(rows) == 1:
        numbers = np.array(range(trial.heads) if choice.heads is None else choice.heads)
        axes.set_xlabel(f"head of layer {trial.layers[rows[0]]}")
    else:
        numbers = trial.arrays["layers"][rows]
        axes.set_xlabel("layer" if choice.heads is None else f"layer ({HeadChoice(heads=choice.heads)})")
    below = np.zeros(len(numbers))
    for name, values in shares(trial, choice).items():
        height = values[0, :, place] if len(rows) == 1 else values[..., place].mean(axis=1)
        axes.bar(numbers, height, width=1.0, bottom=below, edgecolor="white", linewidth=0.3, **LOOKS[name])
        below = below + height
    axes.set_xlim(min(numbers) - 0.5, max(numbers) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
