"""The picture of a benchmark: which panels and lines it has, what it leaves out, and bad input."""

import json
from itertools import pairwise

import numpy as np
import pytest

from tests.visualization.pictures import assert_nothing_overlaps, legend_labels, run_in_process
from utils.errors import UserError
from visualization import benchmark
from visualization.drawing.benchmark_results import NO_BREAK, load_benchmark
from visualization.drawing.style import paper_style, save_figure

LENGTHS = (4096, 16_384, 65_536, 1_048_576)
TORCH = f"torch{NO_BREAK}2.13.0"


def spread(value):
    return {"median": value, "low": 0.8 * value, "high": 1.5 * value, "repeats": 5}


def results(panels=("SmolLM2-135M, float32", "Llama-2-7B, bfloat16"), device="AMD EPYC, 2 threads"):
    """Dense attention ends early; the floor has no memory."""
    rows = []
    for panel in panels:
        for length in LENGTHS:
            if length <= 65_536:
                rows.append({"panel": panel, "method": "dense", "length": length, "seconds": (length / 4096) ** 2})
            rows.append({"panel": panel, "method": "floor", "length": length, "seconds": length / 8000})
            ours = {"seconds": spread(length / 4096), "memory": 40.0 if length > 4096 else 0.0}
            rows.append({"panel": panel, "method": "Λ-attention", "length": length, **ours})
    return {
        "machine": {"device": device, "torch": "2.13.0"},
        "title": "Attention over a whole sequence of $n tokens",
        "quantities": {"seconds": "seconds per forward", "memory": "working memory, MiB"},
        "rows": rows,
    }


@pytest.fixture
def write(tmp_path):
    def write(content, name="results.json"):
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
        return str(tmp_path / name)

    return write


def lines(axes):
    """The data of each line, by its label in the legend's order of drawing."""
    return [np.array(container.lines[0].get_data()).T.tolist() for container in axes.containers]


def test_a_row_for_each_quantity_a_column_for_each_panel_and_a_line_for_each_method(write):
    with paper_style():
        figure = benchmark.draw([load_benchmark(write(results()))])
    assert legend_labels(figure) == ["Λ-attention", "dense", "floor"]
    assert [axes.get_title() for axes in figure.axes[:2]] == ["SmolLM2-135M, float32", "Llama-2-7B, bfloat16"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["seconds per forward", "", "working memory, MiB", ""]
    assert all(axes.get_xscale() == axes.get_yscale() == "log" for axes in figure.axes)
    ours, dense, floor = lines(figure.axes[0])
    assert ours == [[length, length / 4096] for length in LENGTHS]
    assert dense == [[length, (length / 4096) ** 2] for length in LENGTHS[:3]]
    assert floor[0] == [4096, 0.512]
    assert lines(figure.axes[2]) == [[[length, 40.0] for length in LENGTHS[1:]]]  # 0 has no place on a log axis


def test_bars_go_from_the_lowest_to_the_highest_and_only_where_there_are_any(write):
    with paper_style():
        figure = benchmark.draw([load_benchmark(write(results()))])
    ours, dense, floor = figure.axes[0].containers
    np.testing.assert_allclose(ours.lines[2][0].get_segments()[1][:, 1], [0.8 * 4, 1.5 * 4])
    assert dense.lines[2] == floor.lines[2] == ()
    assert floor.lines[0].is_dashed() and floor.lines[0].get_color() == "0.55"


def test_the_machine_stands_below_the_title(write):
    loaded = load_benchmark(write(results()))
    with paper_style():
        figure = benchmark.draw([loaded])
    title = "Attention over a whole sequence of $n tokens"
    assert figure.get_suptitle() == f"{title}\nAMD EPYC, 2 threads, {TORCH}"
    with paper_style():
        assert benchmark.draw([loaded], "Ours").get_suptitle() == f"Ours\nAMD EPYC, 2 threads, {TORCH}"


def test_two_machines_stand_side_by_side_and_a_second_file_of_one_joins_its_panel(write):
    cpu, gpu = results(panels=["7B"]), results(panels=["7B"], device="NVIDIA H200")
    more = {**cpu, "rows": [{"panel": "7B", "method": "window", "length": 4096, "seconds": 0.9}]}
    files = [write(content, f"{place}.json") for place, content in enumerate((cpu, more, gpu))]
    with paper_style():
        figure = benchmark.draw([load_benchmark(path) for path in files])
    titles = [axes.get_title() for axes in figure.axes[:2]]
    assert titles == [f"7B\nAMD EPYC, 2 threads, {TORCH}", f"7B\nNVIDIA H200, {TORCH}"]
    assert len(lines(figure.axes[0])) == 4 and len(lines(figure.axes[1])) == 3
    assert legend_labels(figure) == ["Λ-attention", "dense", "window", "floor"]


@pytest.mark.parametrize("panels", [1, 4])
def test_nothing_overlaps_and_lengths_are_written_in_powers_of_two(write, panels, tmp_path):
    names = [f"SmolLM2-135M number {number}, bfloat16" for number in range(panels)]
    with paper_style():
        figure = benchmark.draw([load_benchmark(write(results(names)))])
        save_figure(figure, [tmp_path / "picture.png"])
        assert_nothing_overlaps(figure)
        ticks = figure.axes[-1].get_xticklabels()
        assert {"16K", "1M"} <= {text.get_text() for text in ticks}
        labels = [text.get_window_extent() for text in ticks]
        assert not any(left.padded(1).overlaps(right) for left, right in pairwise(labels))


def test_what_is_flat_looks_flat_and_one_length_is_enough(write):
    content = results(panels=["7B"])
    content["quantities"] = {"memory": "memory, MiB"}
    content["rows"] = [row for row in content["rows"] if row["length"] == 65_536]
    with paper_style():
        axes = benchmark.draw([load_benchmark(write(content))]).axes[0]
    low, high = axes.get_ylim()
    assert low <= 20.1 and high >= 79.9
    assert axes.get_xlim() == (32_768, 131_072)


def test_the_script_writes_every_format(write, tmp_path, monkeypatch, capsys):
    outputs = [tmp_path / f"picture.{suffix}" for suffix in ("png", "pdf", "svg")]
    run_in_process(monkeypatch, benchmark, write(results()), "--out", *outputs)
    assert all(path.stat().st_size > 5000 for path in outputs)
    assert capsys.readouterr().out.count("wrote ") == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read (No such file or directory)"),
        ("{", "is not JSON"),
        ("[1, 2]", "is not of a benchmark that can be drawn"),
        ({"machine": {"device": "x", "torch": "y"}, "rows": []}, "is not of a benchmark that can be drawn"),
        ({**results(), "rows": [{"panel": "7B", "method": "ours", "length": "long"}]}, "panel, method and length"),
        ({**results(), "rows": []}, "hold no number that could be drawn"),
    ],
)
def test_bad_input_is_one_sentence_and_no_picture(content, said, write, tmp_path, monkeypatch):
    path = write(content) if content is not None else str(tmp_path / "missing.json")
    with pytest.raises(UserError) as caught:
        run_in_process(monkeypatch, benchmark, path, "--out", tmp_path / "picture.png")
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "picture.png").exists()
