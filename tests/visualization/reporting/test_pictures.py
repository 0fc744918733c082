"""The pictures of a report: which trials share one, under which names, and in which form."""

from tests.visualization.example_files import lambda_flags, write_lengths
from tests.visualization.report_files import diagnosis_trial, task_trial
from visualization.drawing import scores
from visualization.drawing.methods import load_methods
from visualization.drawing.style import paper_style
from visualization.reporting import pictures
from visualization.reporting.pictures import data_uri
from visualization.reporting.trials import load_report_trials


def together(log_dirs, labels=None):
    """The labels of what one picture shows of these trials of a kind."""
    trials = load_report_trials(log_dirs, labels)
    return [shown.label for shown in trials[0].kind.together([trial.evidence for trial in trials], labels is None)]


def test_trials_of_different_tasks_have_pictures_of_their_own(tmp_path):
    folders = [str(task_trial(tmp_path / name, task)) for name, task in (("a", "one"), ("b", "two"), ("c", "one"))]
    shown = pictures.draw_pictures(load_report_trials(folders))
    by_length = [picture for picture in shown if picture.heading.startswith("Score by length:")]
    assert [(picture.heading, picture.labels) for picture in by_length] == [
        ("Score by length: one", ["a", "c"]),
        ("Score by length: two", ["b"]),
    ]


def test_a_method_has_one_line_over_its_trials(task_dirs, tmp_path):
    trials = load_report_trials(task_dirs)
    shown, _, _ = pictures.draw_pictures(trials, by_method=True)
    assert shown.labels == [f"{name}-{length}" for name in ("vanilla", "lambda") for length in (2000, 4000, 16000)]
    assert together(task_dirs) == ["vanilla", "Λ-attention"]
    with paper_style():
        expected = data_uri(scores.draw(load_methods(task_dirs)))
    assert shown.source == expected != pictures.draw_pictures(trials)[0].source


def test_labels_that_are_given_name_the_lines(task_dirs):
    assert together(task_dirs, ["a", "a", "a", "b", "c", "c"]) == ["a", "b", "c"]


def test_trials_of_one_method_with_other_settings_are_no_error(task_dirs, tmp_path):
    narrow = write_lengths(tmp_path / "narrow", [2000], max_length=2000, **lambda_flags(512))
    assert together([*task_dirs[3:], str(narrow)]) == ["Λ-attention, lambda-2000", "Λ-attention, narrow"]


def test_diagnoses_are_called_by_their_methods(tmp_path):
    folders = [str(diagnosis_trial(tmp_path / name, window)) for name, window in (("a", None), ("b", 64), ("c", 32))]
    assert together(folders[:2]) == ["vanilla", "Λ-attention"]
    assert together(folders) == ["vanilla", "Λ-attention, b", "Λ-attention, c"]
    assert together(folders[:2], ["x", "y"]) == ["x", "y"]


def test_a_picture_too_large_as_svg_is_a_png(monkeypatch, report_dirs):
    monkeypatch.setattr(pictures, "MOST_SVG_BYTES", 10)
    picture = pictures.draw_pictures(load_report_trials(report_dirs[:1]))[0]
    assert picture.source.startswith("data:image/png;base64,iVBOR")
