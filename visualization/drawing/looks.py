"""One name and one colour for each method, in every picture."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from matplotlib.colors import to_hex, to_rgb

from utils.trials.finished import FinishedTrial, LoadedTrial
from utils.trials.methods import method_name
from visualization.drawing.style import LINE_STYLES, MARKERS

LIGHTEST = 0.5
"""The share of white in the last of several trials of one method."""
MOST_NAMED = 2
"""Of more models or texts, a picture's title says how many."""
Look = dict[str, object]
Loaded = TypeVar("Loaded", bound=LoadedTrial)


@dataclass(frozen=True)
class MethodLook:
    """name: what pictures call the method. colour: of Okabe and Ito (2008), told apart with any colour vision, and
    where these end of Paul Tol's muted scheme.
    """

    name: str
    colour: str


METHOD_LOOKS = {
    "vanilla": MethodLook("vanilla", "#D55E00"),
    "lm_infinite": MethodLook("Λ-attention", "#0072B2"),
    "lm_infinite_top_k": MethodLook("Λ + top-k", "#009E73"),
    "lambda_mask": MethodLook("Λ mask alone", "#56B4E9"),
    "streaming_llm": MethodLook("StreamingLLM", "#CC79A7"),
    "window": MethodLook("window", "#E69F00"),
    "truncate": MethodLook("truncated", "#000000"),
    "dynamic_ntk": MethodLook("dynamic NTK", "#7F7F7F"),
    "pi": MethodLook("position interpolation", "#AA4499"),
    "ntk": MethodLook("static NTK", "#999933"),
    "yarn": MethodLook("YaRN", "#882255"),
    "self_extend": MethodLook("SelfExtend", "#332288"),
    "dca": MethodLook("Dual Chunk Attention", "#117733"),
    "rerope": MethodLook("ReRoPE", "#44AA99"),
    "leaky_rerope": MethodLook("Leaky ReRoPE", "#88CCEE"),
    "other": MethodLook("other", "#8C6D31"),
}
BENCHMARK_COLOURS = {look.name: look.colour for look in METHOD_LOOKS.values()} | {
    "dense": METHOD_LOOKS["vanilla"].colour,
    "dense causal": METHOD_LOOKS["vanilla"].colour,
    "published": "#CC6677",
    "flex_attention": "#DDCC77",
}
"""Colours by what benchmarks call a method, up to a comma; the last two of Tol's muted scheme."""


def method_of(trial: FinishedTrial) -> str:
    """A key of METHOD_LOOKS."""
    return method_name(trial.script, trial.arguments)


def display_name(trial: FinishedTrial) -> str:
    """What pictures call the method of a trial."""
    return METHOD_LOOKS[method_of(trial)].name


def method_labels(trials: Sequence[FinishedTrial]) -> list[str]:
    """The names of the trials' methods, with those of their models and texts where these are several."""
    facts = [[describe(trial) for trial in trials] for describe in (model_name, text_name)]
    several = [names for names in facts if len(set(names)) > 1]
    methods = [display_name(trial) for trial in trials]
    return [", ".join(filter(None, parts)) for parts in zip(methods, *several)]


def told_apart(names: Sequence[str], labels: Sequence[str]) -> list[str]:
    """The names, with the label behind one that several have."""
    return [name if names.count(name) == 1 else f"{name}, {label}" for name, label in zip(names, labels)]


def named_by_method(trials: Sequence[Loaded]) -> list[Loaded]:
    """The trials with their methods' names as labels, as `told_apart` has them; as they are where all have one name."""
    names = method_labels(trials)
    if len(names) > 1 and len(set(names)) == 1:
        return list(trials)
    told = told_apart(names, [trial.label for trial in trials])
    return [replace(trial, label=name) for trial, name in zip(trials, told)]


def looks_of(trials: Sequence[FinishedTrial]) -> list[Look]:
    """Colour and line style of each trial: its method's colour; of several of one method, ever lighter and other lines.

    The line style tells methods apart in grey, too.
    """
    return _told_apart([METHOD_LOOKS[method_of(trial)].colour for trial in trials])


def looks_by_name(names: Sequence[str]) -> list[Look]:
    """The same of methods as benchmarks call them; one that no table names is a way of running Λ-attention."""
    ours = METHOD_LOOKS["lm_infinite"].colour
    return _told_apart([BENCHMARK_COLOURS.get(name.partition(",")[0], ours) for name in names])


def _told_apart(colours: Sequence[str]) -> list[Look]:
    order, totals, seen = list(dict.fromkeys(colours)), Counter(colours), Counter[str]()
    looks = []
    for colour in colours:
        again, several = seen[colour], max(totals[colour] - 1, 1)
        seen[colour] += 1
        style = LINE_STYLES[(order.index(colour) + again) % len(LINE_STYLES)]
        looks.append({"color": _lighter(colour, LIGHTEST * again / several), "linestyle": style})
    return looks


def marked(looks: Sequence[Look]) -> list[Look]:
    """The same with a marker each, for lines through few points."""
    return [look | {"marker": MARKERS[place % len(MARKERS)], "markersize": 3} for place, look in enumerate(looks)]


def source_words(trials: Sequence[FinishedTrial]) -> str:
    """The models and the texts of these trials, for a picture's title."""
    models, texts = _enumerate(map(model_name, trials), "models"), _enumerate(map(text_name, trials), "texts")
    return ", ".join(filter(None, (models, texts)))


def _enumerate(names: Iterable[str], what: str) -> str:
    """ "big", "big and texts"; more than MOST_NAMED as their number."""
    different = list(dict.fromkeys(filter(None, names)))
    return " and ".join(different) if len(different) <= MOST_NAMED else f"{len(different)} {what}"


def text_name(trial: FinishedTrial) -> str:
    """The task, or the last part of what its user called the text."""
    task = trial.results.get("task")
    return task or (trial.arguments.get("dataset") or "").rstrip("/").rpartition("/")[2]


def model_name(trial: FinishedTrial) -> str:
    """The last part of what its user called the model."""
    name = (trial.config.get("model") or {}).get("name") or ""
    return name.rstrip("/").rpartition("/")[2]


def _lighter(colour: str, white: float) -> str:
    return to_hex([part + (1 - part) * white for part in to_rgb(colour)]).upper()
