"""One colour and one name per method, whatever stands beside it."""

from itertools import product

import numpy as np
import pytest

from tests.visualization.example_files import lambda_flags, write_lengths
from tests.visualization.nll_files import stream_trial
from utils.trials.examples import read_trial
from utils.trials.methods import METHODS
from visualization.drawing.curves import Curve
from visualization.drawing.looks import (
    METHOD_LOOKS,
    looks_by_name,
    looks_of,
    method_labels,
    named_by_method,
    source_words,
)
from visualization.drawing.nll import limit_nll


@pytest.fixture
def trials(tmp_path):
    vanilla = write_lengths(tmp_path / "a", (2000,))
    wide, narrow = (write_lengths(tmp_path / str(size), (2000,), **lambda_flags(size)) for size in (4096, 512))
    return [read_trial(folder, ("eval_downstream_tasks",)) for folder in (vanilla, wide, narrow)]


def test_every_method_has_a_look_of_its_own():
    assert METHOD_LOOKS.keys() == METHODS.keys() | {"other"}
    for part in ("name", "colour"):
        assert len({getattr(look, part) for look in METHOD_LOOKS.values()}) == len(METHOD_LOOKS)


def test_a_method_has_its_colour_wherever_it_stands(trials):
    vanilla, wide, _ = trials
    colours = [{look["color"] for look in looks_of(order)} for order in ([vanilla, wide], [wide, vanilla])]
    assert colours[0] == colours[1] == {METHOD_LOOKS["vanilla"].colour, METHOD_LOOKS["lm_infinite"].colour}
    assert looks_of([wide])[0]["color"] == looks_of([vanilla, wide])[1]["color"]
    assert method_labels([vanilla, wide]) == ["vanilla", "Λ-attention"]


def test_a_benchmark_has_the_colours_of_all_other_pictures():
    names = ["Λ-attention", "window", "dense causal", "published", "flex_attention, no cap"]
    colours = dict(zip(names, [look["color"] for look in looks_by_name(names)]))
    assert colours["Λ-attention"] == METHOD_LOOKS["lm_infinite"].colour
    assert colours["window"] == METHOD_LOOKS["window"].colour
    assert colours["dense causal"] == METHOD_LOOKS["vanilla"].colour == looks_by_name(["dense"])[0]["color"]
    assert len(set(colours.values())) == 5
    others = {look.colour for name, look in METHOD_LOOKS.items() if name not in ("lm_infinite", "window", "vanilla")}
    assert others.isdisjoint(colours.values())
    captured, at_once = looks_by_name(["Λ-attention, CUDA graph", "Λ-attention"])
    assert captured["color"] == colours["Λ-attention"] and at_once["color"] != captured["color"]


def test_several_of_one_method_are_told_apart(trials):
    looks = [tuple(look.values()) for look in looks_of([*trials, trials[2]])]
    assert len(set(looks)) == 4
    assert looks[1][0] == METHOD_LOOKS["lm_infinite"].colour


def test_models_and_texts_are_told(trials):
    assert source_words(trials) == "tiny, passkey_retrieval"
    trials[0].config["model"]["name"] = "other/model"
    assert source_words(trials) == "model and tiny, passkey_retrieval"
    del trials[0].results["task"]
    trials[0].arguments["dataset"] = "/data/plays/"
    assert source_words(trials[:1]) == "model, plays"
    assert source_words(trials) == "model and tiny, plays and passkey_retrieval"
    trials[1].results["task"] = "qasper"
    assert source_words(trials) == "model and tiny, 3 texts"


def named(folder, kinds):
    """What pictures call streams of these methods and texts."""
    trials = [
        stream_trial(folder / str(place), 2000, method=method, dataset=f"/data/{text}")
        for place, (method, text) in enumerate(kinds)
    ]
    return [trial.label for trial in named_by_method(trials)]


def test_names_hold_what_tells_trials_apart_and_no_more(tmp_path):
    yarn, vanilla = "yarn", "vanilla"
    assert named(tmp_path / "a", [(yarn, "big"), (vanilla, "big")]) == ["YaRN", "vanilla"]
    both = [(yarn, "big"), (vanilla, "big"), (yarn, "texts"), (vanilla, "texts")]
    assert named(tmp_path / "b", both) == ["YaRN, big", "vanilla, big", "YaRN, texts", "vanilla, texts"]
    assert named(tmp_path / "c", [(yarn, "big"), (vanilla, "big"), (yarn, "big")]) == ["YaRN, 0", "vanilla", "YaRN, 2"]
    assert named(tmp_path / "d", [(yarn, "big"), (yarn, "texts")]) == ["YaRN, big", "YaRN, texts"]
    assert named(tmp_path / "e", [(yarn, "big"), (yarn, "big")]) == ["0", "1"]


def test_names_hold_the_models_where_these_are_several(trials):
    trials[0].config["model"]["name"] = "other/model"
    assert method_labels(trials[:2]) == ["vanilla, model", "Λ-attention, tiny"]


@pytest.mark.parametrize(("scale", "first"), list(product(("linear", "log"), (12.0, 3.2))))
def test_first_tokens_do_not_stretch_the_axis_and_that_is_said(scale, first):
    from matplotlib.figure import Figure

    position = np.arange(1.0, 1001.0)
    mean = np.where(position < 5, first, 3 + 0.2 * np.sin(position))
    curve = Curve(position, mean, *np.zeros((4, 1000)))
    axes = Figure().subplots()
    axes.plot(curve.position, curve.mean)
    limit_nll(axes, [curve], scale)
    cut = scale == "linear" and first == 12.0
    assert (axes.get_ylim()[1] < 4) == (cut or first == 3.2)
    assert axes.get_title(loc="right") == ("first tokens cut, at up to 12.0" if cut else "")
