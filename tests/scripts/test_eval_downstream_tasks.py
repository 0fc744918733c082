"""scripts/eval_downstream_tasks.py as a user calls it: prompts, batches, ranks, resume, what fails, refusals."""

import json
import sys
from contextlib import contextmanager

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from data.tasks.prompt import PromptEncoder
from data.tasks.registry import get_task
from data.tasks.task import TaskRequest, open_examples
from data.text_metrics.scores import generation_scores
from models.llama import convert_llama_model
from scripts import eval_downstream_tasks
from scripts.generation.generator import Generator
from scripts.harness.journal import Journal
from tests.scripts.running import ROOT, results, run_script
from utils.errors import UserError
from utils.trials.examples import read_trial

SCRIPT = "eval_downstream_tasks"
LAMBDA = ("--use_lambda_attention", "--local_branch", 64, "--global_branch", 4, "--limit_distance", 64)
TOP_K = ("--top_k_attention", 5, "--top_k_insert_at", 48, "--top_k_from_layer", 1, "--top_k_to_layer", 1000)
VOLATILE = ("checksum", "seconds", "memory_bytes", "shared_tokens")
SAMPLES, NEW = 5, 6
TEMPLATE = (
    "{% for message in messages %}<s>{{ message['role'] }}: {{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: {% endif %}"
)


@pytest.fixture
def flags(tiny_llama_dir):
    return (
        *("--model", tiny_llama_dir, "--dataset", "passkey_retrieval", "--max_length", 700),
        *("--num_samples", SAMPLES, "--max_generation_length", NEW),
    )


@pytest.fixture
def unequal(tiny_llama_dir, tmp_path):
    """Flags for examples of very different lengths, from files."""
    lines = []
    for number in range(SAMPLES):
        key = str(1234 + number)
        text = "The grass is green. " * (2 + 5 * number) + f"The pass key is {key}. Remember it. {key} is the pass key."
        lines.append(json.dumps({"input": text, "target": key}))
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "test.jsonl").write_text("\n".join(lines) + "\n")
    return (
        *("--model", tiny_llama_dir, "--dataset", "passkey_retrieval", "--dataset_dir", tmp_path / "files"),
        *("--max_generation_length", NEW),
    )


def run_here(*flags):
    """The script in this process: fast, and its UserError can be seen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"scripts/{SCRIPT}.py", *map(str, flags)])
        eval_downstream_tasks.main()


def samples(log_dir):
    """The lines of samples.jsonl in the order of examples, without what differs from run to run."""
    lines = [json.loads(line) for line in (log_dir / "samples.jsonl").read_text().splitlines()]
    lines = [{key: value for key, value in line.items() if key not in VOLATILE} for line in lines]
    return sorted(lines, key=lambda line: line["index"])


def generate_by_hand(model_dir, prompts, convert=lambda model: model, new=NEW):
    """The text that `model.generate` gives after each list of token ids alone."""
    model = convert(AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval())
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    outputs = []
    for ids in prompts:
        ids = torch.tensor([ids])
        options = {"max_new_tokens": new, "do_sample": False, "pad_token_id": 0}
        output = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
        outputs.append(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))
    return outputs


def examples_of(task, encoder, length=700):
    request = TaskRequest(task, count=encoder.count, length=length, num_samples=SAMPLES)
    return list(open_examples(get_task(task), request))


@contextmanager
def prompts_read():
    """A list that gets the prompts of each `generate`, as rows of token ids without padding, while this is open."""
    prompts, generate = [], Generator.generate

    def recording(self, input_ids, cache=None, attention_mask=None):
        prompts.extend(row[mask.bool()].tolist() for row, mask in zip(input_ids, attention_mask))
        return generate(self, input_ids, cache, attention_mask)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Generator, "generate", recording)
        yield prompts


@contextmanager
def stopped_after(commits):
    """The run is interrupted right after that many steps are committed."""
    commit, left = Journal.commit, [commits]

    def counting_commit(*args):
        commit(*args)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Journal, "commit", counting_commit)
        yield


@pytest.mark.parametrize("task", ["passkey_retrieval", "ruler/vt"])
def test_outputs_are_those_of_generate_and_scored_by_the_task(task, flags, tiny_llama_dir, tmp_path):
    length = {"passkey_retrieval": 700, "ruler/vt": 2000}[task]  # variable tracking begins with a solved example
    run_here(*flags, *LAMBDA, "--dataset", task, "--max_length", length, "--log_dir", tmp_path)
    encoder = PromptEncoder(AutoTokenizer.from_pretrained(tiny_llama_dir))
    examples = examples_of(task, encoder, length)
    prompts = [encoder.encode(example.prompt) for example in examples]
    outputs = generate_by_hand(tiny_llama_dir, prompts, lambda model: convert_llama_model(model, 64, 4))
    trial = read_trial(tmp_path)
    for line, example, prompt, output in zip(trial.samples, examples, prompts, outputs, strict=True):
        assert (line["id"], line["targets"], line["depth"]) == (example.id, example.targets, example.depth)
        assert (line["output"], line["length"]) == (output, len(prompt))
        assert line["score"] == get_task(task).metric(output, example.targets)
        assert line["seconds"] > 0 and line["memory_bytes"] > 0
    assert len({line["prompt_sha256"] for line in trial.samples}) == SAMPLES
    assert trial.results["task"] == task and trial.results["examples"] == SAMPLES and trial.results["failed"] == 0


def test_a_constant_answer_scores_where_it_is_the_target(flags, tiny_tokenizer_dir, tmp_path, capsys):
    encoder = PromptEncoder(AutoTokenizer.from_pretrained(tiny_tokenizer_dir))
    key = examples_of("passkey_retrieval", encoder)[2].targets[0]
    model = ("--model", "constant_model", "--tokenizer_path", tiny_tokenizer_dir, "--max_generation_length", 100)
    run_here(*flags, *model, "--constant_answer", f" {key}.", "--log_dir", tmp_path)
    assert [line["score"] for line in samples(tmp_path)] == [0, 0, 1, 0, 0]
    assert results(tmp_path)["score"] == 0.2 and results(tmp_path)["standard_error"] > 0
    out = capsys.readouterr().out
    assert f"1.00 for '{key}.', wanted ['{key}']" in out and "accuracy 0.2000" in out


def test_the_published_protocol(flags, tiny_tokenizer_dir, tmp_path, capsys):
    """Its flags are recorded, and its prompts, which may be longer than --max_length, are whole."""
    flags = flags[: flags.index("--max_generation_length")]
    encoder = PromptEncoder(AutoTokenizer.from_pretrained(tiny_tokenizer_dir))
    name = "passkey_retrieval"
    request = TaskRequest(name, **encoder.counts(), length=700, num_samples=SAMPLES, nominal_length=True)
    expected = list(open_examples(get_task(name), request))
    model = ("--model", "constant_model", "--tokenizer_path", tiny_tokenizer_dir)
    answer = ("--constant_answer", expected[2].targets[0][:1])
    run_here(*flags, *model, *answer, "--protocol", "published", "--log_dir", tmp_path)
    assert [line["length"] for line in samples(tmp_path)] == [example.length for example in expected]
    recorded = json.loads((tmp_path / "config.json").read_text())["arguments"]
    fixed = {"protocol": "published", "percent": True, "nominal_length": True, "max_generation_length": 7}
    assert {flag: recorded[flag] for flag in fixed} == fixed
    assert results(tmp_path)["percent"] == 100 * results(tmp_path)["score"] == 0
    assert "accuracy (of 100) 0.00 [0.00, 43.45] over 5 examples" in capsys.readouterr().out


@pytest.mark.parametrize(
    "method", [(), LAMBDA, (*LAMBDA, *TOP_K, "--offload_middle")], ids=["vanilla", "lambda", "top-k"]
)
def test_batches_of_different_lengths_give_what_single_examples_give(method, unequal, tmp_path):
    run_here(*unequal, *method, "--log_dir", tmp_path / "single")
    run_here(*unequal, *method, "--log_dir", tmp_path / "batch", "--batch_size", 3)
    assert samples(tmp_path / "batch") == samples(tmp_path / "single")
    assert len({line["length"] for line in samples(tmp_path / "single")}) == SAMPLES


@pytest.mark.parametrize("length", [200, 201])
@pytest.mark.parametrize("side", ["left", "right", "center"])
def test_truncation_to_exactly_so_many_tokens(side, length, unequal, tiny_llama_dir, tmp_path):
    with prompts_read() as whole:
        run_here(*unequal, "--log_dir", tmp_path / "whole")
    with prompts_read() as cut:
        run_here(*unequal, "--max_length", length, "--truncation_side", side, "--log_dir", tmp_path / "cut")
    assert any(len(ids) <= length for ids in whole) and any(len(ids) > length for ids in whole)
    for ids, found in zip(whole, cut, strict=True):
        assert len(found) == min(length, len(ids))
        begin = {"left": 0, "right": len(found), "center": len(found) // 2}[side]
        assert found[:begin] == ids[:begin] and found[begin:] == ids[len(ids) - (len(found) - begin) :]


@pytest.mark.parametrize(("side", "length", "said"), [("right", 200, 1), ("center", 200, 0), ("right", 10**6, 0)])
def test_it_is_said_once_that_questions_are_cut_off(side, length, said, unequal, tmp_path, capsys):
    cut = ("--max_length", length, "--truncation_side", side, "--runtime_truncation", 150)
    run_here(*unequal, *cut, "--log_dir", tmp_path / "cut")
    output = capsys.readouterr().out
    assert output.count("cuts the question off prompts of more than --max_length 200 tokens") == said


def test_goes_on_with_another_number_of_ranks(flags, tmp_path):
    part = (*flags, *LAMBDA, "--start_data_from", 1)
    run_here(*part, "--log_dir", tmp_path / "one")
    with stopped_after(1):
        run_here(*part, "--log_dir", tmp_path / "two")
    assert len(samples(tmp_path / "two")) == 1
    run = run_script(SCRIPT, *part, "--log_dir", tmp_path / "two", ranks=2)
    assert run.returncode == 0, run.stdout + run.stderr
    assert samples(tmp_path / "two") == samples(tmp_path / "one")
    assert [line["index"] for line in samples(tmp_path / "two")] == [1, 2, 3, 4]
    read_trial(tmp_path / "two")


def test_two_ranks_share_the_weights(flags, tmp_path):
    run_here(*flags, *LAMBDA, "--log_dir", tmp_path / "one")
    sharded = ("--deepspeed_config", ROOT / "configs" / "zero3_efficient_config.json")
    run = run_script(SCRIPT, *flags, *LAMBDA, *sharded, "--log_dir", tmp_path / "two", ranks=2)
    assert run.returncode == 0, run.stdout + run.stderr
    assert samples(tmp_path / "two") == samples(tmp_path / "one")


def test_shards_of_a_trial_are_its_examples(flags, tmp_path):
    run_here(*flags, "--log_dir", tmp_path / "whole")
    for start in (0, 2):
        shard = ("--start_data_from", start, "--max_data_num", 2)
        run_here(*flags, *shard, "--log_dir", tmp_path / str(start))
        assert samples(tmp_path / str(start)) == samples(tmp_path / "whole")[start : start + 2]


@pytest.mark.parametrize("batch", [1, 3])
def test_an_example_that_does_not_fit_is_recorded_and_the_run_goes_on(batch, unequal, tmp_path, monkeypatch, capsys):
    generate = Generator.generate

    def short_of_memory(self, input_ids, *args, **kwargs):
        if input_ids.numel() > 300:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(self, input_ids, *args, **kwargs)

    run_here(*unequal, "--log_dir", tmp_path / "whole")
    monkeypatch.setattr(Generator, "generate", short_of_memory)
    run_here(*unequal, "--batch_size", batch, "--evaluate_metrics", "--log_dir", tmp_path / "short")
    failed = 0
    for ours, theirs in zip(samples(tmp_path / "short"), samples(tmp_path / "whole"), strict=True):
        if theirs["length"] > 300:
            failed += 1
            theirs |= {
                "output": None,
                "score": None,
                "error": f"memory ran out over a prompt of {ours['length']} tokens",
            }
        assert ours == theirs
    assert 0 < failed < SAMPLES and results(tmp_path / "short")["failed"] == failed
    assert f"{failed} failed" in capsys.readouterr().out
    read_trial(tmp_path / "short")


def test_any_other_failure_is_an_examples_too(unequal, tmp_path, monkeypatch):
    generate = Generator.generate

    def fails_on_the_third(self, input_ids, *args, **kwargs):
        if input_ids.shape[1] == third:
            raise ValueError("no such shape\nin detail")
        return generate(self, input_ids, *args, **kwargs)

    run_here(*unequal, "--log_dir", tmp_path / "whole")
    third = samples(tmp_path / "whole")[2]["length"]
    monkeypatch.setattr(Generator, "generate", fails_on_the_third)
    run_here(*unequal, "--log_dir", tmp_path / "failed")
    lines = samples(tmp_path / "failed")
    assert lines[2]["error"] == f"ValueError (no such shape) over a prompt of {third} tokens"
    assert [line["score"] is None for line in lines] == [False, False, True, False, False]
    assert results(tmp_path / "failed")["failed"] == 1


def test_chat_template_and_structured_prompt(flags, tiny_llama_dir, tiny_tokenizer_dir, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path / "chat")
    chat = (*flags, "--tokenizer_path", tmp_path / "chat", "--max_data_num", 1)
    with prompts_read() as prompts:
        run_here(*chat, "--apply_chat_template", "--log_dir", tmp_path / "1")
        run_here(*chat, "--structured_prompt", "--log_dir", tmp_path / "2")
    in_template, structured = map(tokenizer.decode, prompts)
    assert in_template.startswith("<s>user: There is an important info")
    assert in_template.endswith("What is the pass key?</s><s>assistant:  The pass key is "), "as RULER writes an answer"
    assert "[INST] <<SYS>>" in structured and structured.endswith("[/INST] \n The pass key is ")
    assert len(prompts[0]) <= 700 and len(prompts[1]) <= 700
    with pytest.raises(UserError, match="--structured_prompt contradicts --apply_chat_template"):
        run_here(*chat, "--structured_prompt", "--apply_chat_template", "--log_dir", tmp_path / "3")
    with pytest.raises(UserError, match="the tokenizer has no chat template"):
        run_here(*flags, "--apply_chat_template", "--log_dir", tmp_path / "4")


def test_method_is_the_flags_that_it_stands_for(unequal, tmp_path):
    names = {
        "lm_infinite": LAMBDA,
        "truncate": ("--runtime_truncation", 64),
        "lm_infinite_top_k": (*LAMBDA, "--top_k_attention", 2, "--top_k_from_layer", 1),
    }
    outputs = {}
    for method, spelt in names.items():
        given = ("--local_branch", 64) if method == "truncate" else (*LAMBDA[1:], *spelt[len(LAMBDA) :])
        run_here(*unequal, "--method", method, *given, "--log_dir", tmp_path / method)
        run_here(*unequal, *spelt, "--log_dir", tmp_path / f"{method}-flags")
        assert samples(tmp_path / method) == samples(tmp_path / f"{method}-flags")
        outputs[method] = tuple(line["output"] for line in samples(tmp_path / method))
    assert len(set(outputs.values())) == 3


def test_published_flags(tiny_llama_dir, unequal, tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "files").rename(tmp_path / "keys" / "512")
    published = (
        *("--model", tiny_llama_dir, "--tokenizer_path", tiny_llama_dir, *LAMBDA, *TOP_K, "--triangle_offset", 0.0),
        *("--dataset", "passkey_retrieval", "--dataset_dir", tmp_path / "keys", "--dataset_group", 512),
        *("--split", "test", "--max_data_num", 3, "--start_data_from", 1, "--max_length", 400),
        *("--truncation_side", "center", "--max_generation_length", 10, "--min_new_tokens", 2, "--suppress_tokens"),
        *("--do_sample", "--seed", 0, "--structured_prompt", "--evaluate_metrics", "--silent"),
    )
    run_here(*published, "--log_dir", tmp_path / "log")
    lines = samples(tmp_path / "log")
    assert [line["id"] for line in lines] == ["512:1", "512:2", "512:3"]
    assert all(line["error"] is None and line["length"] <= 400 for line in lines)
    assert "rougeL" in results(tmp_path / "log")


def test_texts_are_compared_besides_and_examples_shown_unless_silent(unequal, tmp_path, capsys):
    run_here(*unequal, "--evaluate_metrics", "--log_dir", tmp_path / "shown")
    shown = capsys.readouterr().out
    run_here(*unequal, "--silent", "--log_dir", tmp_path / "silent")
    assert shown.count(", wanted [") == SAMPLES and ", wanted [" not in capsys.readouterr().out
    lines = samples(tmp_path / "shown")
    scores = generation_scores([line["output"] for line in lines], [line["targets"][0] for line in lines])
    assert {name: results(tmp_path / "shown")[name] for name in scores} == scores
    assert "bleu" not in results(tmp_path / "silent")


def test_a_token_that_the_model_does_not_know_is_named(unequal, tiny_tokenizer_dir, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    tokenizer.add_tokens(["grass"])
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(UserError, match="has the token 'grass' .* --tokenizer_path"):
        run_here(*unequal, "--tokenizer_path", tmp_path / "tokenizer", "--log_dir", tmp_path / "log")


def test_a_finished_trial_is_shown_and_others_refused(unequal, tmp_path, capsys, monkeypatch):
    run_here(*unequal, "--log_dir", tmp_path / "log")
    monkeypatch.setattr("scripts.downstream.experiment.load_model", lambda *_: pytest.fail("the model was loaded"))
    run_here(*unequal, "--silent", "--batch_size", 2, "--log_dir", tmp_path / "log")
    assert "holds this trial\npasskey_retrieval: accuracy" in capsys.readouterr().out
    with pytest.raises(UserError, match="--truncation_side was 'right' and is 'left' now"):
        run_here(*unequal, "--truncation_side", "left", "--log_dir", tmp_path / "log")


@pytest.mark.parametrize(
    "changes, words",
    [
        (("--dataset", "passkey"), "--dataset passkey is no task; there are: passkey_retrieval, needle_in_a_haystack"),
        (("--dataset", "ruler"), "--dataset ruler needs --dataset_group"),
        (("--dataset", "qasper"), f"--num_samples {SAMPLES} means nothing to --dataset qasper"),
        (("--model", "./nowhere"), "--model ./nowhere"),
        (("--start_data_from", SAMPLES), f"--start_data_from {SAMPLES} is beyond the end"),
        (("--depths", 1.5), "--depths: must be from 0 to 1"),
        (("--needles", 2), "--needles 2 means nothing to --dataset passkey_retrieval"),
        (("--max_length", 20), "--max_length 20"),
        (("--min_new_tokens", NEW + 1), f"--min_new_tokens {NEW + 1} is more than --max_generation_length {NEW}"),
        (("--top_k_attention", 5), "--top_k_attention needs --use_lambda_attention"),
    ],
)
def test_bad_input_is_one_sentence(changes, words, flags, tmp_path):
    with pytest.raises(UserError) as refusal:
        run_here(*flags, *changes, "--log_dir", tmp_path)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)
