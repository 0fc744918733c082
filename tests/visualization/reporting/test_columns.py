"""The tables of a report: which there are, what stands in them, and what comes first."""

from tests.visualization.report_files import FLAGS, generation_trial, stream_trial, three_trials
from visualization.reporting.columns import comparisons, differing_arguments
from visualization.reporting.trials import load_report_trials


def tables(log_dirs):
    """The columns of each table, by its words: texts by heading."""
    return {
        table.measures: {column.heading: [cell.text for cell in column.cells] for column in table.columns}
        for table in comparisons(load_report_trials(log_dirs))
    }


def test_a_table_for_each_script_with_numbers_that_any_of_its_trials_has(report_dirs, tmp_path):
    found = tables(
        [*report_dirs, str(stream_trial(tmp_path / "stream")), str(generation_trial(tmp_path / "generation"))]
    )
    documents, task, stream, generation = found.values()
    assert list(found) == ["perplexity of documents", "a downstream task", "NLL along a stream", "generation"]
    assert [text.split(" ± 0.")[0] for text in documents["NLL"]] == ["10.0000", "9.5000"]
    assert stream["NLL"][0].startswith("3.5000 ± 0.") and "NLL" not in task
    assert task["Score"] == ["0.5000 ± 0.3500"] and task["Failed"] == ["1"] and "Failed" not in documents
    assert generation["BLEU"] == ["0.2500 ± 0.0100"]
    assert documents["Length (tokens)"] == ["41", "41"] and task["Length (tokens)"] == ["1,001"]
    assert documents["Started (UTC)"][0] == "2026-01-31 12:34"
    assert "Bits/byte" not in documents


def test_results_stand_right_after_the_method(report_dirs):
    documents, task = (list(columns) for columns in tables(report_dirs).values())
    assert documents[:4] == ["Method", "NLL", "Perplexity", "Length (tokens)"] and task[:2] == ["Method", "Score"]
    assert documents.index("Settings") > documents.index("Length (tokens)")
    assert tables(report_dirs)["perplexity of documents"]["Method"] == ["vanilla", "Λ-attention"]


def test_each_trial_leads_to_its_own_section(report_dirs):
    mixed = load_report_trials([report_dirs[0], report_dirs[2], report_dirs[1]], ["a", "b", "c"])
    assert [table.places for table in comparisons(mixed)] == [[0, 2], [1]]


def test_what_differs_is_told_of_trials_of_one_script_only(report_dirs):
    loaded = load_report_trials(report_dirs)
    assert set(differing_arguments(loaded)) == {"batch_size", *FLAGS}
    assert differing_arguments(loaded[1:]) == []


def test_without_labels_trials_of_a_method_follow_each_other_by_length(task_dirs):
    mixed = [task_dirs[place] for place in (3, 2, 0, 5, 1, 4)]
    loaded = load_report_trials(mixed)
    assert [trial.label for trial in loaded] == [
        *(f"lambda-{length}" for length in (2000, 4000, 16000)),
        *(f"vanilla-{length}" for length in (2000, 4000, 16000)),
    ]
    assert [trial.label for trial in load_report_trials(mixed, list("abcdef"))] == list("abcdef")


def test_labels_are_as_short_as_tells_trials_apart(tmp_path):
    one, other = (three_trials(tmp_path / name) for name in ("first", "second"))
    assert [trial.label for trial in load_report_trials([one[0], other[0]])] == ["first/vanilla", "second/vanilla"]
    cells = [tmp_path / f"smollm2--passkey--{length}--{name}" for length in (1, 2) for name in ("a", "b")]
    for cell in cells:
        stream_trial(cell)
    labels = {trial.label for trial in load_report_trials([*map(str, cells), one[1]])}
    assert labels == {"1--a", "1--b", "2--a", "2--b", "lambda"}
    assert load_report_trials([str(cells[0])])[0].label == cells[0].name
