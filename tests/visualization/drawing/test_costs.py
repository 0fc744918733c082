"""The picture of costs by length."""

import pytest

from tests.visualization.example_files import lambda_flags, write_generation, write_lengths
from tests.visualization.pictures import legend_labels
from visualization.drawing import costs
from visualization.drawing.lengths import LengthGroups
from visualization.drawing.methods import load_methods


def test_a_peak_counts_until_a_longer_text_was_met(tmp_path):
    """The second time around, all lengths have seen the memory of the longest."""
    (method,) = load_methods([str(write_lengths(tmp_path / "mixed", [1024, 2048, 4096], repeats=2))])
    latency, memory = costs.COSTS["eval_downstream_tasks"]
    groups = LengthGroups.over([method])
    middle, low, high = costs.costs_by_length(method, groups, memory)
    assert middle.tolist() == low.tolist() == high.tolist() == [1, 2, 4]
    assert costs.costs_by_length(method, groups, latency)[0].tolist() == [1.024, 2.048, 4.096]


def test_no_marker_is_cut_at_the_top_of_a_linear_axis(task_dirs):
    for axes in costs.draw(load_methods(task_dirs)).axes:
        highest = max(container.lines[0].get_ydata().max() for container in axes.containers)
        assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > 1.05 * highest


def test_costs_of_generation(tmp_path):
    folders = [
        str(write_generation(tmp_path / "vanilla", [1000, 2000])),
        str(write_generation(tmp_path / "lambda", [1000, 2000], cache=lambda _: 2**19, **lambda_flags(512))),
    ]
    methods = load_methods(folders, None, tuple(costs.COSTS))
    figure = costs.draw(methods, scale="log")
    prefill, decode, cache = figure.axes
    assert prefill.containers[0].lines[0].get_ydata().tolist() == [1, 2]
    assert decode.containers[0].lines[0].get_ydata() == pytest.approx([100, 100])
    assert cache.containers[1].lines[0].get_ydata().tolist() == [0.5, 0.5]
    assert [axes.get_ylabel() for axes in figure.axes] == ["seconds", "ms per token", "MiB"]
    assert figure.get_suptitle() == "tiny, plays" and cache.get_xlabel() == "position (tokens)"
    assert legend_labels(figure) == ["vanilla", "Λ-attention", costs.BARS]
