"""A trial's files: what is refused, what survives, what goes on."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from scripts.perplexity.journal import NllJournal
from scripts.perplexity.scorer import ScoredDocument
from utils.console import Console
from utils.errors import UserError
from utils.trials.nll_by_position import NllStatistics
from utils.trials.trial import Trial

ARGUMENTS = {"model": "m", "max_length": 8, "batch_size": 1, "overwrite": False}
MODEL = {"name": "m", "dtype": "float32"}


def open_trial(folder, **changes):
    arguments = ARGUMENTS | changes
    return Trial.open(str(folder), "script", arguments, Console(), arguments["overwrite"])


def config(**changes):
    facts = {
        "script": "script",
        "arguments": ARGUMENTS,
        "model": MODEL,
        "lambda_attention": None,
        "corpus": {},
    }
    return facts | changes


def scored(index, length=6):
    nll = np.random.default_rng(index).random(length - 1).astype(np.float32)
    return ScoredDocument({"index": index, "id": f"d{index}", "tokens": length, "scored": length - 1}, nll)


@pytest.fixture
def begun(tmp_path):
    trial = open_trial(tmp_path)
    trial.begin(config())
    return tmp_path


def test_same_arguments_go_on_and_free_ones_may_change(begun):
    open_trial(begun, batch_size=4).begin(config())


def keep_one(folder):
    NllJournal(open_trial(folder)).commit([scored(0)], 1.0, 1)


def test_other_arguments_are_refused_by_name_with_both_values(begun):
    keep_one(begun)
    with pytest.raises(UserError, match=r"--max_length was 8 and is 9 now.*--overwrite"):
        open_trial(begun, max_length=9)


def test_a_trial_that_never_came_to_a_number_makes_room(begun, capsys):
    NllJournal(open_trial(begun))  # a run that fails in its first document leaves an empty samples.jsonl
    (begun / "notes.md").write_text("mine")
    trial = open_trial(begun, max_length=9)
    trial.begin(config(arguments=ARGUMENTS | {"max_length": 9}))
    assert trial.config["arguments"]["max_length"] == 9
    assert sorted(os.listdir(begun)) == ["config.json", "log.txt", "notes.md"]
    said = f"--log_dir {begun} held a trial with other arguments that never came to a number\n"
    assert capsys.readouterr().out == said == (begun / "log.txt").read_text()
    trial.begin(config(arguments=ARGUMENTS | {"max_length": 9}, model=MODEL | {"dtype": "bfloat16"}))
    assert trial.config["model"]["dtype"] == "bfloat16"


@pytest.mark.parametrize("kept", ["checkpoint-000000007", "checkpoint-document-000000.npz", "stats.npz"])
def test_what_streams_and_diagnoses_keep_counts_as_numbers(kept, begun):
    (begun / kept).write_text("something")
    with pytest.raises(UserError, match="--max_length was 8 and is 9 now"):
        open_trial(begun, max_length=9)


def test_another_model_under_the_same_name_is_refused(begun):
    keep_one(begun)
    trial = open_trial(begun)
    with pytest.raises(UserError, match="model dtype was 'float32' and is 'bfloat16' now"):
        trial.begin(config(model=MODEL | {"dtype": "bfloat16"}))


def versions(transformers, commit, digest="d1"):
    taken = {"versions": {"torch": "2.13.0", "transformers": transformers}, "git_commit": commit * 40}
    return config(**taken, model=MODEL | {"config_sha256": digest})


def test_going_on_with_other_versions_is_said_once_and_noted(tmp_path, capsys):
    open_trial(tmp_path).begin(versions("5.23.0", "a"))
    trial = open_trial(tmp_path)
    trial.begin(versions("5.24.0", "b", digest="d2"))  # another Transformers, another to_dict()
    said = "going on with transformers 5.24.0 (5.23.0 before), commit bbbbbbbb (aaaaaaaa before)\n"
    assert capsys.readouterr().out == said and (tmp_path / "log.txt").read_text() == said
    del trial
    trial = open_trial(tmp_path)
    trial.begin(versions("5.24.0", "b", digest="d2"))
    assert capsys.readouterr().out == ""
    trial.finish({"nll": 1.0})
    took_part = [(one["versions"]["transformers"], one["git_commit"][0]) for one in trial.results["environments"]]
    assert took_part == [("5.23.0", "a"), ("5.24.0", "b")]


def test_another_configuration_under_the_same_transformers_is_refused(tmp_path):
    open_trial(tmp_path).begin(versions("5.24.0", "a"))
    keep_one(tmp_path)
    with pytest.raises(UserError, match="config_sha256"):
        open_trial(tmp_path).begin(versions("5.24.0", "a", digest="d2"))


def test_overwrite_removes_our_files_only(begun):
    (begun / "notes.md").write_text("mine")
    NllJournal(open_trial(begun)).commit([scored(0)], 1.0, 1)
    trial = open_trial(begun, max_length=9, overwrite=True)
    trial.begin(config(arguments=ARGUMENTS | {"max_length": 9}))
    assert sorted(os.listdir(begun)) == ["config.json", "log.txt", "notes.md"]
    assert trial.config["arguments"]["max_length"] == 9
    assert trial.results is None and trial.arrays() is None and trial.samples() == []


def test_overwrite_removes_nothing_before_the_new_trial_begins(begun):
    trial = open_trial(begun)
    NllJournal(trial).commit([scored(0)], 1.0, 1)
    trial.finish({"nll": 1.0})
    before = {path.name: path.read_bytes() for path in begun.iterdir()}
    del trial
    assert open_trial(begun, max_length=9, overwrite=True).results is None
    assert {path.name: path.read_bytes() for path in begun.iterdir()} == before


def test_overwrite_killed_at_any_moment_leaves_a_trial_of_its_config(begun, monkeypatch):
    trial = open_trial(begun)
    NllJournal(trial).commit([scored(0)], 1.0, 1)
    trial.finish({"nll": 1.0})
    removed = []
    unlink = Path.unlink

    def unlink_and_look(path, missing_ok=False):
        unlink(path, missing_ok)
        removed.append(path.name)
        left = [name for name in ("results.json", "nll.npz", "samples.jsonl") if (begun / name).exists()]
        assert (begun / "config.json").exists() or not left

    monkeypatch.setattr(Path, "unlink", unlink_and_look)
    del trial
    open_trial(begun, max_length=9, overwrite=True).begin(config())
    assert {"results.json", "nll.npz", "samples.jsonl", "config.json"} <= set(removed)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name, content", [("config.json", '{"model_type": "llama"}'), ("results.json", "{}")])
def test_a_folder_of_something_else_is_left_alone(tmp_path, name, content, overwrite):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=f"holds .*{name}.* no trial's: give another folder"):
        open_trial(tmp_path, overwrite=overwrite)
    assert (tmp_path / name).read_text() == content


def test_a_damaged_configuration_can_be_overwritten(begun):
    (begun / "config.json").write_bytes(b"{")
    open_trial(begun, overwrite=True).begin(config())
    assert Trial(begun).config["model"] == MODEL


def test_a_second_run_in_the_same_folder_is_refused(begun):
    running = open_trial(begun)
    with pytest.raises(UserError, match="in use by another run"):
        open_trial(begun)
    del running
    open_trial(begun)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--log_dir .*file/logs cannot be written"):
        open_trial(tmp_path / "file" / "logs")


def test_full_disk_is_a_user_error_and_keeps_what_is_there(begun):
    journal = NllJournal(open_trial(begun))
    journal.commit([scored(0)], 1.0, 1)
    (begun / "samples.jsonl").unlink()
    (begun / "samples.jsonl").symlink_to("/dev/full")
    with pytest.raises(UserError, match="No space left on device"):
        journal.commit([scored(1)], 1.0, 1)
    assert (begun / "checkpoint-nll.f32").read_bytes()[:20] == scored(0).nll.tobytes() and journal.done == [0]


def test_a_kill_between_the_numbers_and_their_line_loses_one_step(begun, monkeypatch):
    journal = NllJournal(open_trial(begun))
    journal.commit([scored(0), scored(1)], 2.0, 10)
    with monkeypatch.context() as patch:
        patch.setattr(Trial, "append_samples", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            journal.commit([scored(2)], 1.0, 20)
    with open(begun / "samples.jsonl", "a") as file:
        file.write('{"index": 3, "id"')  # a torn line
    again = NllJournal(Trial(begun))
    assert [sample["index"] for sample in again.samples] == [0, 1]
    assert (again.seconds, again.peak_memory) == (2.0, 10)
    again.commit([scored(2)], 1.0, 10)
    again.fold()

    whole = Trial(begun / "whole")
    whole.folder.mkdir()
    whole.begin(config())
    one_go = NllJournal(whole)
    one_go.commit([scored(0), scored(1)], 2.0, 10)
    one_go.commit([scored(2)], 1.0, 10)
    one_go.fold()
    for name in ("samples.jsonl", "nll.npz", "checkpoint-nll.f32"):
        assert (whole.folder / name).read_bytes() == (begun / name).read_bytes(), name


def test_a_folded_trial_goes_on_from_its_sums_or_its_file(begun):
    journal = NllJournal(open_trial(begun))
    journal.commit([scored(0), scored(4)], 2.0, 7)
    journal.fold()
    for _ in range(2):
        again = NllJournal(Trial(begun))
        assert again.done == [0, 4] and again.statistics.total == journal.statistics.total
        assert (again.seconds, again.peak_memory) == (2.0, 7)
        (begun / "checkpoint-nll.f32").unlink(missing_ok=True)


def test_a_trial_of_a_version_that_wrote_all_sums_at_each_step_goes_on(begun, capsys):
    """Its lines have no checksums, and name no numbers of their own."""
    statistics, old = NllStatistics(), [scored(index).sample for index in (0, 1, 2)]
    for index in (0, 1):
        statistics.add(scored(index).nll)
    state = {"documents": [0, 1], "seconds": 2.0, "peak_memory_bytes": 5}
    np.savez(begun / "nll.npz", **statistics.arrays(), state=np.array(json.dumps(state)))
    (begun / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in old))
    (begun / "config.json").write_text(json.dumps(config()))
    journal = NllJournal(open_trial(begun))
    assert journal.done == [0, 1] and "without checksums: what is there is taken as it is" in capsys.readouterr().out
    journal.commit([scored(2)], 1.0, 6)
    again = NllJournal(Trial(begun))
    statistics.add(scored(2).nll)
    assert again.done == [0, 1, 2] and again.statistics.sum.tobytes() == statistics.sum.tobytes()
    assert (again.seconds, again.peak_memory) == (3.0, 6) and capsys.readouterr().out == ""


def test_a_lost_sample_of_folded_sums_is_named(begun):
    journal = NllJournal(Trial(begun))
    journal.commit([scored(0), scored(4)], 1.0, 1)
    journal.fold()
    (begun / "checkpoint-nll.f32").unlink()
    lines = (begun / "samples.jsonl").read_text().splitlines()
    (begun / "samples.jsonl").write_text(lines[0] + "\n")
    with pytest.raises(UserError, match="lacks document 4"):
        NllJournal(Trial(begun))


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_damaged_numbers_of_a_document_are_named_and_repaired(begun):
    NllJournal(Trial(begun)).commit([scored(0), scored(4), scored(5)], 1.0, 1)
    flip(begun / "checkpoint-nll.f32", 25)
    with pytest.raises(UserError, match=r"checkpoint-nll.f32 is not as it was written at document 4: nothing is"):
        NllJournal(Trial(begun))
    repairing = Trial(begun)
    repairing.repair = True
    assert NllJournal(repairing).done == [0, 5] and NllJournal(Trial(begun)).done == [0, 5]


@pytest.mark.parametrize("name", ["config.json", "nll.npz"])
def test_a_damaged_file_is_named(begun, name):
    (begun / name).write_bytes(b"{")
    with pytest.raises(UserError, match=name):
        NllJournal(open_trial(begun))


def test_arrays_hold_no_pickle_and_leave_no_temporary_file(begun):
    journal = NllJournal(Trial(begun))
    journal.commit([scored(0)], 1.0, 1)
    journal.fold()
    with np.load(begun / "nll.npz", allow_pickle=False) as arrays:
        assert arrays["count"].tolist() == [0, 1, 1, 1, 1, 1]
    assert not [name for name in os.listdir(begun) if name.endswith(".partial")]


def test_log_mirrors_the_console(tmp_path, capsys):
    console = Console()
    console.say("before")
    Trial.open(str(tmp_path), "script", ARGUMENTS, console)
    console.say("after")
    assert (tmp_path / "log.txt").read_text() == capsys.readouterr().out == "before\nafter\n"


def test_a_name_that_is_no_unicode_is_kept(begun):
    sample = {"index": 0, "id": os.fsdecode(b"caf\xe9 \xce\x9b.txt"), "scored": 1}
    NllJournal(Trial(begun)).commit([ScoredDocument(sample, np.ones(1, dtype=np.float32))], 1.0, 1)
    assert sample.items() <= NllJournal(Trial(begun)).samples[0].items()
    assert "Λ" in (begun / "samples.jsonl").read_text()


def test_a_log_that_cannot_be_written_is_named(begun):
    console = Console()
    console.log_to(Path("/dev/full"))
    with pytest.raises(UserError, match="/dev/full cannot be written .No space left on device."):
        console.say("anything")


def test_an_error_is_logged_too(tmp_path):
    console = Console()
    with pytest.raises(UserError), console.logging_errors():
        Trial.open(str(tmp_path), "script", ARGUMENTS, console)
        raise UserError("--model x: is not there")
    assert (tmp_path / "log.txt").read_text() == "error: --model x: is not there\n"


def test_scored_documents_travel_bit_for_bit():
    document = scored(3)
    received = ScoredDocument.from_json(json.loads(json.dumps(document.to_json())))
    assert received.sample == document.sample
    assert received.nll.tobytes() == document.nll.tobytes()
