"""Questions on documents as a user asks them: shared prefill changes no answer, whatever stops or spreads the run."""

import random

import pytest
import torch

from data.tasks.narrative_qa import NarrativeQA
from scripts.generation.generator import Generator
from tests.data.tasks.test_narrative_qa import DOCUMENT_COLUMNS, QUESTION_COLUMNS, write_table
from tests.scripts.running import ROOT, results, run_script
from tests.scripts.test_eval_downstream_tasks import LAMBDA, SCRIPT, TOP_K, run_here, samples, stopped_after
from utils.errors import UserError
from utils.trials.examples import read_trial

ASKED = {"a": 4, "b": 1, "c": 3, "d": 1}
QUESTIONS = sum(ASKED.values())


@pytest.fixture(scope="module")
def flags(tmp_path_factory, tiny_llama_dir):
    """Flags for questions on stories of about 400 tokens."""
    folder, words = tmp_path_factory.mktemp("narrative"), random.Random(0)
    write_table(folder / "documents.csv", DOCUMENT_COLUMNS, [[name, "test", *"gu9ut"] for name in ASKED])
    (folder / "tmp").mkdir()
    rows = []
    for name, count in ASKED.items():
        story = " ".join(words.choice(["the", "and", "that", "wörd"]) for _ in range(150))
        (folder / "tmp" / f"{name}.content").write_text(story)
        rows += [[name, "test", f"Who is {words.randrange(10**6)}?", "Ann", "Lee", ""] for _ in range(count)]
    write_table(folder / "qaps.csv", QUESTION_COLUMNS, rows)
    model = ("--model", tiny_llama_dir, "--max_generation_length", 6, "--silent")
    return (*model, "--dataset", "narrative_qa_plain", "--dataset_dir", folder)


@pytest.fixture(scope="module")
def alone(flags, tmp_path_factory):
    """The log dir of a run in which each prompt is read from its start."""
    folder = tmp_path_factory.mktemp("alone")
    run_here(*flags, *LAMBDA, "--no_shared_prefill", "--log_dir", folder)
    return folder


def saved(folder):
    return results(folder)["prefill_tokens_saved"]


def test_each_document_is_read_once(flags, alone, tmp_path, capsys):
    run_here(*flags, *LAMBDA, "--log_dir", tmp_path)
    assert samples(tmp_path) == samples(alone) and saved(alone) == 0
    lines = read_trial(tmp_path).samples
    assert [line["shared_tokens"] > 300 for line in lines] == [False, True, True, True, False, False, True, True, False]
    prompts = sum(line["length"] for line in lines)
    assert results(alone)["prefill_tokens"] == prompts == results(tmp_path)["prefill_tokens"] + saved(tmp_path)
    assert f"{saved(tmp_path):,} saved where prompts share a beginning" in capsys.readouterr().out


def test_batches_end_where_a_document_does(flags, alone, tmp_path):
    run_here(*flags, *LAMBDA, "--batch_size", 8, "--log_dir", tmp_path)
    assert samples(tmp_path) == samples(alone) and saved(tmp_path) > 5 * 300


@pytest.mark.parametrize("method", [(), (*LAMBDA, "--triangle_offset", 0.5)], ids=["vanilla", "triangle"])
def test_whatever_keeps_all_tokens_shares_too(method, flags, tmp_path):
    run_here(*flags, *method, "--no_shared_prefill", "--log_dir", tmp_path / "alone")
    run_here(*flags, *method, "--batch_size", 3, "--log_dir", tmp_path / "shared")
    assert samples(tmp_path / "shared") == samples(tmp_path / "alone") and saved(tmp_path / "shared") > 5 * 300


@pytest.mark.parametrize(
    "method, why",
    [
        ((*LAMBDA, *TOP_K), "with --top_k_attention the last token of each chunk"),
        (("--rope_scaling", "dynamic"), "this model's RoPE scaling changes its frequencies"),
    ],
)
def test_where_parts_would_change_the_numbers_each_prompt_is_read_alone(method, why, flags, tmp_path, capsys):
    run_here(*flags, *method, "--max_data_num", 2, "--log_dir", tmp_path)
    assert f"each prompt read from its start: {why}" in capsys.readouterr().out and saved(tmp_path) == 0


def test_a_run_that_is_stopped_within_a_document_goes_on(flags, alone, tmp_path):
    with stopped_after(2):
        run_here(*flags, *LAMBDA, "--log_dir", tmp_path)
    assert len(samples(tmp_path)) == 2
    run_here(*flags, *LAMBDA, "--log_dir", tmp_path)
    assert samples(tmp_path) == samples(alone) and saved(tmp_path) > 0


def test_ranks_have_documents_of_their_own(flags, alone, tmp_path):
    run = run_script(SCRIPT, *flags, *LAMBDA, "--log_dir", tmp_path, ranks=2)
    assert run.returncode == 0, run.stdout + run.stderr
    assert samples(tmp_path) == samples(alone) and saved(tmp_path) > 5 * 300
    read_trial(tmp_path)


def test_ranks_that_share_the_weights_read_in_chunks_together(flags, alone, tmp_path):
    sharded = ("--deepspeed_config", ROOT / "configs" / "zero3_efficient_config.json", "--prefill_chunk", 150)
    run = run_script(SCRIPT, *flags, *LAMBDA, *sharded, "--log_dir", tmp_path, ranks=2)
    assert run.returncode == 0, run.stdout + run.stderr
    assert samples(tmp_path) == samples(alone) and saved(tmp_path) == 0
    assert "each prompt read from its start: under ZeRO-3" in run.stdout


def test_chunks_and_shared_beginnings_go_together(flags, alone, tmp_path, capsys):
    run_here(*flags, *LAMBDA, "--prefill_chunk", 70, "--batch_size", 2, "--log_dir", tmp_path)
    assert samples(tmp_path) == samples(alone) and saved(tmp_path) > 5 * 300
    assert "longer texts in chunks of 70 tokens, decoding by ordinary forwards (there is no GPU)" in (
        capsys.readouterr().out
    )


def test_a_story_that_cannot_be_read_is_named_at_its_turn(flags, alone, tmp_path, monkeypatch):
    read = NarrativeQA._text

    def unreadable(self, name):
        if name == "c":
            raise UserError("tmp/c.content cannot be read")
        return read(self, name)

    monkeypatch.setattr(NarrativeQA, "_text", unreadable)
    with pytest.raises(UserError, match="tmp/c.content cannot be read"):
        run_here(*flags, *LAMBDA, "--log_dir", tmp_path)
    assert samples(tmp_path) == samples(alone)[:5]


def test_where_memory_runs_out_over_a_shared_beginning_prompts_are_read_alone(flags, alone, tmp_path, monkeypatch):
    def out_of_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Generator, "prefill", out_of_memory)
    run_here(*flags, *LAMBDA, "--log_dir", tmp_path)
    assert samples(tmp_path) == samples(alone) and saved(tmp_path) == 0
