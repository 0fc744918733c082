"""scripts/eval_lm_harness.py as a user calls it: lm-eval's tasks of each kind, resume, damage, tables, refusals."""

import json
import shutil
from contextlib import contextmanager
from importlib import metadata

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.llama import convert_llama_model
from scripts import combine_results
from scripts.combining.shards import JoinedTrial
from scripts.lm_harness import library
from tests.scripts.lm_harness.lm_tasks import (
    CHOICES,
    FIRST,
    GENERATED,
    LAMBDA,
    SCRIPT,
    TASKS,
    TEXTS,
    WINDOW,
    run_here,
    scores,
    write_tasks,
)
from tests.scripts.running import results
from tests.scripts.streaming.stream_trials import killed_at
from utils.errors import SharedError, UserError
from utils.trials.examples import read_trial
from utils.trials.finished import read_log_dir
from utils.trials.trial import Trial
from visualization.reporting.kinds import KINDS

VOLATILE = ("seconds", "peak_memory_bytes", "sha256", "computed_from", "environments")
ALL = ",".join(TASKS)


@pytest.fixture
def needs_lm_eval():
    pytest.importorskip("lm_eval")


@pytest.fixture
def without_own_tasks(needs_lm_eval, monkeypatch):
    """lm-eval as if it had no tasks of its own, which take half a minute to list on a busy machine."""
    from scripts.lm_harness import tasks

    def manager(**options):
        return original(**options | {"include_defaults": False})

    original = tasks.TaskManager
    monkeypatch.setattr(tasks, "TaskManager", manager)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    return write_tasks(tmp_path_factory.mktemp("lm-eval") / "tasks")


@pytest.fixture(scope="module")
def flags(tasks, tiny_llama_dir):
    return ("--model", tiny_llama_dir, "--include_path", tasks, "--tasks", ALL)


@pytest.fixture(scope="module")
def finished(flags, tmp_path_factory):
    """The log dir of a whole trial under Λ-attention."""
    pytest.importorskip("lm_eval")
    log_dir = tmp_path_factory.mktemp("finished")
    run_here(*flags, *LAMBDA, "--batch_size", 2, "--prefill_chunk", 9, "--log_dir", log_dir)
    return log_dir


def numbers(log_dir):
    """results.json without what differs from run to run."""
    return {name: value for name, value in results(log_dir).items() if name not in VOLATILE}


def examples(log_dir, task):
    """lm-eval's lines on the examples of a task."""
    (path,) = log_dir.glob(f"samples_*_{task}.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def close(found, expected):
    """Dicts of numbers and texts."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value), name


@contextmanager
def evaluated():
    """A list that gets the names of the tasks that are evaluated while this is open."""
    from scripts.lm_harness.experiment import Evaluating

    names, evaluate = [], Evaluating.evaluate

    def noting(self, name):
        names.append(name)
        return evaluate(self, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evaluating, "evaluate", noting)
        yield names


@pytest.fixture(scope="module")
def model(tiny_llama_dir):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_dir, dtype=torch.float32).eval()
    return convert_llama_model(model, WINDOW, FIRST)


@pytest.fixture(scope="module")
def tokenizer(tiny_llama_dir):
    return AutoTokenizer.from_pretrained(tiny_llama_dir)


class TestScores:
    @torch.no_grad()
    def nll(self, model, ids, start):
        """The sum of the NLL of the tokens from `start` on."""
        logits = model(torch.tensor([ids])).logits[0, start - 1 : -1].double()
        return -logits.log_softmax(-1).gather(-1, torch.tensor(ids[start:])[:, None]).sum().item()

    def test_rolling_is_the_nll_of_whole_texts(self, finished, model, tokenizer):
        nll = [self.nll(model, [1, *tokenizer.encode(text)], 1) for text in TEXTS]
        expected = torch.tensor(sum(nll) / sum(len(text.encode()) for text in TEXTS)).exp().item()
        assert scores(results(finished))["own_rolling", "byte_perplexity"] == pytest.approx(expected, rel=1e-4)

    def test_choices_are_by_likelihood_and_by_that_over_their_length(self, finished, model, tokenizer):
        found = examples(finished, "own_choice")
        plain, by_length = [], []
        for place, text in enumerate(TEXTS):
            context = tokenizer.encode(text)
            nll = [self.nll(model, context + tokenizer.encode(choice), len(context)) for choice in CHOICES]
            told = [-float(pair[0]) for pair in found[place]["filtered_resps"]]
            assert told == pytest.approx(nll, rel=1e-4)
            plain.append(min(range(3), key=nll.__getitem__) == place)
            by_length.append(min(range(3), key=[n / len(c) for n, c in zip(nll, CHOICES)].__getitem__) == place)
        assert scores(results(finished))["own_choice", "acc"] == pytest.approx(sum(plain) / 3)
        assert scores(results(finished))["own_choice", "acc_norm"] == pytest.approx(sum(by_length) / 3)

    def test_likelihoods_are_those_of_a_forward(self, finished, model, tokenizer):
        for text, found in zip(TEXTS, examples(finished, "own_likelihood")):
            context, scored = tokenizer.encode(text), tokenizer.encode(" and the dog")
            expected = self.nll(model, context + scored, len(context))
            assert -float(found["filtered_resps"][0][0]) == pytest.approx(expected, rel=1e-4)

    def test_generation_is_that_of_generate(self, tiny_llama_dir, model, tokenizer, tmp_path):
        """What the model writes is made the answer, but for the last one."""
        pytest.importorskip("lm_eval")
        written = []
        for text in TEXTS:
            ids = tokenizer(text, return_tensors="pt").input_ids
            output = model.generate(ids, max_new_tokens=GENERATED, do_sample=False, pad_token_id=0)
            written.append(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))
        folder = write_tasks(tmp_path / "tasks", [*written[:2], "none"])
        flags = ("--model", tiny_llama_dir, "--include_path", folder, "--tasks", "own_generation")
        run_here(*flags, *LAMBDA, "--batch_size", 3, "--log_dir", tmp_path / "log")
        (score,) = results(tmp_path / "log")["scores"]
        assert (score["metric"], score["n"]) == ("exact_match", 3)
        assert score["score"] == pytest.approx(2 / 3) and score["standard_error"] == pytest.approx(1 / 3)

    def test_of_a_vanilla_model_all_is_as_lm_eval_has_it(self, flags, tasks, tiny_llama_dir, tmp_path):
        """Groups and standard errors too, and what lm-eval cuts is counted."""
        lm_eval = pytest.importorskip("lm_eval")
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        names = ["own_rolling", "own_group", "own_generation"]
        run_here(*flags[:-1], ",".join(names), "--log_dir", tmp_path / "log")
        manager = TaskManager(include_path=tasks, include_defaults=False)
        theirs = HFLM(pretrained=AutoModelForCausalLM.from_pretrained(tiny_llama_dir), tokenizer=str(tiny_llama_dir))
        expected = lm_eval.simple_evaluate(model=theirs, tasks=names, task_manager=manager)
        found = json.loads((tmp_path / "log" / "lm_eval_results.json").read_text())
        for part in ("results", "groups"):
            assert found[part].keys() == expected[part].keys() != set()
            for name, metrics in expected[part].items():
                close(found[part][name], metrics)
        for part in ("group_subtasks", "versions", "n-samples"):
            assert found[part] == expected[part]
        kept = results(tmp_path / "log")
        assert (kept["truncated"], kept["windowed"], kept["max_length"]) == (5, 1, 64)
        assert scores(kept)["own_group", "acc"] == pytest.approx(expected["groups"]["own_group"]["acc,none"])


class TestResume:
    @pytest.mark.parametrize("done", range(4))
    def test_a_trial_that_was_killed_ends_with_the_same_numbers(self, flags, finished, tmp_path, done):
        log_dir, more = tmp_path / "log", (*LAMBDA, "--batch_size", 1)
        with killed_at(Trial, "append_samples", done + 1):
            run_here(*flags, *more, "--log_dir", log_dir)
        with evaluated() as names:
            run_here(*flags, *more, "--log_dir", log_dir)
        assert names == list(TASKS)[done:]
        again, once = numbers(log_dir), numbers(finished)
        assert [score.pop("score") for score in again["scores"]] == pytest.approx(
            [score.pop("score") for score in once["scores"]], rel=1e-4
        )
        for score in (*again["scores"], *once["scores"]):
            score.pop("standard_error")  # of nearly equal numbers
        assert again == once

    def test_what_is_sampled_does_not_depend_on_the_tasks_before(self, tasks, flags, finished, tmp_path):
        folder = shutil.copytree(tasks, tmp_path / "tasks")
        text = (folder / "own_generation.yaml").read_text()
        (folder / "more.yaml").write_text(text.replace("task: own_generation", "task: own_more"))
        sampling = ("--gen_kwargs", '{"do_sample": true, "temperature": 1.0, "top_k": 0}', *LAMBDA)
        call = (*flags, "--include_path", folder, "--tasks", "own_generation,own_more", *sampling, "--log_dir")
        run_here(*call, tmp_path / "once")
        with killed_at(Trial, "append_samples", 2):
            run_here(*call, tmp_path / "log")
        run_here(*call, tmp_path / "log")
        again, once = examples(tmp_path / "log", "own_more"), examples(tmp_path / "once", "own_more")
        assert [line["resps"] for line in again] == [line["resps"] for line in once]
        assert [line["resps"] for line in once] != [line["resps"] for line in examples(finished, "own_generation")]

    def test_a_finished_trial_is_shown_and_not_done_again(self, flags, finished, capsys):
        with evaluated() as names:
            run_here(*flags, *LAMBDA, "--log_dir", finished)
        assert names == []
        said = capsys.readouterr().out
        assert "already finished" in said and "own_choice" in said and "18 requests of 4 tasks, none cut" in said

    def test_other_arguments_are_refused(self, flags, finished):
        with pytest.raises(UserError, match="--num_fewshot was None and is 2 now"):
            run_here(*flags, *LAMBDA, "--num_fewshot", 2, "--log_dir", finished)

    def test_overwriting_leaves_no_file_of_the_trial_before(self, flags, finished, tmp_path):
        log_dir = shutil.copytree(finished, tmp_path / "log")
        run_here(*flags[:-1], "own_choice", *LAMBDA, "--overwrite", "--log_dir", log_dir)
        assert [path.name for path in log_dir.glob("samples_*")] == ["samples_0000_own_choice.jsonl"]
        assert {score["task"] for score in results(log_dir)["scores"]} == {"own_choice"}

    def test_damage_is_named_and_repaired(self, flags, finished, tmp_path):
        whole, log_dir = numbers(finished), tmp_path / "log"
        more = (*LAMBDA, "--batch_size", 2, "--prefill_chunk", 9, "--log_dir", log_dir)
        for name in ("samples.jsonl", "samples_0002_own_choice.jsonl", "lm_eval_results.json", "results.json"):
            shutil.copytree(finished, log_dir)
            content = bytearray((log_dir / name).read_bytes())
            content[len(content) // 2] ^= 1
            (log_dir / name).write_bytes(content)
            with pytest.raises(UserError, match=name):
                run_here(*flags, *more)
            run_here(*flags, *more, "--repair")
            assert numbers(log_dir) == whole
            shutil.rmtree(log_dir)


def test_arguments_reach_lm_eval(flags, finished, tmp_path):
    given = ("--limit", 2, "--num_fewshot", 0, "--system_instruction", "Be brief.", "--seed", 5)
    run_here(*flags, *LAMBDA, *given, "--gen_kwargs", '{"max_new_tokens": 2}', "--log_dir", tmp_path)
    assert {score["n"] for score in results(tmp_path)["scores"]} == {2}
    (first, _), (before, *_) = examples(tmp_path, "own_generation"), examples(finished, "own_generation")
    prompt, options = first["arguments"]["gen_args_0"].values()
    assert prompt.startswith("Be brief.") and options["max_gen_toks"] == 2
    assert len(first["resps"][0][0]) < len(before["resps"][0][0])
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["versions"]["lm-eval"] == metadata.version("lm-eval")
    assert config["corpus"] == {"name": ALL, "documents": 4}


def test_the_chat_template_is_applied(flags, finished, tiny_llama_dir, tmp_path):
    folder = shutil.copytree(tiny_llama_dir, tmp_path / "model")
    (folder / "chat_template.jinja").write_text("{% for message in messages %}[{{ message.content }}]{% endfor %}:")
    chat = ("--model", folder, *flags[2:-1], "own_generation", *LAMBDA, "--apply_chat_template")
    run_here(*chat, "--log_dir", tmp_path / "log")
    assert examples(tmp_path / "log", "own_generation")[0]["arguments"]["gen_args_0"]["arg_0"] == f"[{TEXTS[0]}]:"


@pytest.mark.parametrize(
    "more, length",
    [
        ((), 64),
        (("--max_length", 200), 200),
        (("--method", "truncate", "--local_branch", 30), 30),
        (("--method", "dynamic_ntk"), None),
        (LAMBDA, None),
        ((*LAMBDA, "--max_length", 50), 50),
    ],
)
def test_requests_are_cut_where_it_is_said(flags, finished, tmp_path, more, length):
    run_here(*flags[:-1], "own_generation", *more, "--log_dir", tmp_path)
    assert results(tmp_path)["max_length"] == length


def test_tables_and_reports_have_the_scores(finished):
    trial = read_trial(finished)
    rows = combine_results.table([JoinedTrial((trial,))], ["one"])
    assert {(row["task"], row["metric"]): row["score"] for row in rows} == scores(results(finished))
    assert {row["n"] for row in rows} == {3} and {row["method"] for row in rows} == {"lm_infinite"}
    kind = KINDS[SCRIPT]
    table = kind.breakdown(trial.results, finished / "results.json")
    assert len(table.rows) == len(rows) and "own_rolling" in table.rows[0]
    assert kind.headline(read_log_dir(finished))["texts"] == (12, None)


class TestRefusals:
    @pytest.mark.parametrize(
        "more, words",
        [
            (("--tasks", "own_choise"), r"--tasks own_choise is none of .*own; did you mean 'own_choice'\?$"),
            (("--tasks", "no.yaml"), r"--tasks no.yaml is no file"),
            (("--include_path", "nowhere"), "--include_path nowhere is no folder"),
            (("--apply_chat_template",), "the tokenizer has no chat template"),
            (("--max_length", 4), "--max_length 4 has no room for a prompt"),
            (
                ("--method", "lm_infinite_top_k", "--local_branch", 16, "--top_k_from_layer", 1, "--tasks", ALL),
                "--top_k_attention 5 is not for --tasks own_rolling",
            ),
        ],
    )
    def test_what_makes_no_sense_is_one_sentence(self, without_own_tasks, flags, tmp_path, more, words):
        with pytest.raises(UserError, match=words) as error:
            run_here(*flags[:-1], "own_generation", *more, "--log_dir", tmp_path / "log")
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        "more, words",
        [
            (("--tasks", "a,,b"), "must be names with one comma"),
            (("--limit", 0), "must be a whole number of at least 1"),
            (("--limit", 1.5), "must be a whole number of at least 1"),
            (("--gen_kwargs", "a=1"), "must be a JSON object"),
            (("--metadata", "[1]"), "must be a JSON object"),
        ],
    )
    def test_wrong_flags(self, flags, more, words):
        with pytest.raises(SharedError, match=words):
            run_here(*flags, *more)

    def test_a_task_that_cannot_be_opened_says_why(self, needs_lm_eval, flags, tmp_path):
        folder = write_tasks(tmp_path / "tasks")
        (folder / "data.jsonl").unlink()
        with pytest.raises(UserError, match="--tasks own_choice cannot be opened: FileNotFoundError"):
            run_here(*flags, "--include_path", folder, "--tasks", "own_choice", "--log_dir", tmp_path / "log")

    def test_without_lm_eval_it_says_what_to_install(self, flags, monkeypatch):
        def missing(name):
            raise metadata.PackageNotFoundError(name)

        monkeypatch.setattr(library, "version", missing)
        with pytest.raises(SharedError, match=r"needs the package lm-eval, an extra: pip install 'lm-eval>=0.4.13'"):
            run_here(*flags)

    def test_an_old_lm_eval_is_named(self, flags, monkeypatch):
        monkeypatch.setattr(library, "version", lambda _: "0.4.9.2")
        with pytest.raises(SharedError, match=r"needs lm-eval 0.4.13 or newer, and this is 0.4.9.2"):
            run_here(*flags)

    def test_several_ranks_are_refused(self, needs_lm_eval):
        from types import SimpleNamespace

        from scripts.lm_harness.experiment import LmHarness

        experiment = LmHarness(model=None, tasks=None, reading=None, batch_size=1)
        with pytest.raises(SharedError, match="runs on one rank, and 2 were started"):
            experiment.open(SimpleNamespace(world_size=2))
