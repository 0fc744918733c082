"""scripts/eval_generation.py as a user calls it: outputs of `generate`, one pass over the text, resume, ranks."""

import copy
import json
import random
import sys
import weakref
from contextlib import contextmanager

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from data.text_metrics.scores import generation_scores
from models.llama import convert_llama_model
from models.mpt_7b import convert_mpt_model
from scripts import eval_generation
from scripts.harness.journal import Journal
from tests.scripts.running import ROOT, results, run_script
from tests.tiny_models import tiny_model, tiny_tokenizer
from utils.errors import UserError
from utils.trials.examples import read_trial

SCRIPT = "eval_generation"
LENGTHS = (
    60,
    25,
    90,
    2,
    70,
)  # words of 1 to 6 tokens: one document ends before the first position, one before the last
POSITIONS = (20, 41, 90)
LAMBDA = ("--use_lambda_attention", "--local_branch", 16, "--global_branch", 4, "--limit_distance", 16)
VOLATILE = ("checksum", "seconds", "memory_bytes", "prefill_seconds", "decode_seconds", "batch")
NEW = 8


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus") / "texts"
    folder.mkdir()
    words = random.Random(0)
    for place, length in enumerate(LENGTHS):
        text = " ".join(words.choice(["the", "and", "a", "wörd", "that"]) for _ in range(length))
        (folder / f"{place:03d}.txt").write_text(text)
    return folder


@pytest.fixture(scope="module")
def tiny_mpt_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny-mpt")
    tiny_model("mpt").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def flags(tiny_llama_dir, texts):
    return (
        *("--model", tiny_llama_dir, "--dataset", texts, "--max_generation_length", NEW),
        *("--evaluate_positions", *POSITIONS),
    )


def run_here(*flags):
    """The script in this process: fast, and its UserError can be seen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"scripts/{SCRIPT}.py", *map(str, flags)])
        eval_generation.main()


def samples(log_dir):
    """The lines of samples.jsonl in the order of documents and positions, without what differs from run to run."""
    lines = [json.loads(line) for line in (log_dir / "samples.jsonl").read_text().splitlines()]
    lines = [{key: value for key, value in line.items() if key not in VOLATILE} for line in lines]
    return sorted(lines, key=lambda line: (line["index"], line["position"]))


def by_hand(model_dir, texts, convert=lambda model: model, positions=POSITIONS, truncation=None, **options):
    """{(document, position): (output, reference)}, of `model.generate` on each prompt alone."""
    model = convert(AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval())
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    found = {}
    for index, path in enumerate(sorted(texts.iterdir())):
        ids = tokenizer(path.read_text())["input_ids"]
        for position in (position for position in positions if position < len(ids)):
            prompt = torch.tensor([ids[max(0, position - (truncation or position)) : position]])
            mask = torch.ones_like(prompt)
            options = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0, **options}
            output = model.generate(prompt, attention_mask=mask, **options)[0, prompt.shape[1] :]
            texts_here = output, ids[position : position + NEW]
            found[index, position] = tuple(tokenizer.decode(part, skip_special_tokens=True) for part in texts_here)
    return found


def found_texts(log_dir):
    return {(line["index"], line["position"]): (line["output"], line["reference"]) for line in samples(log_dir)}


@contextmanager
def counted_tokens():
    """A list that gets the number of tokens of each forward of a Llama while this is open."""
    from transformers.models.llama.modeling_llama import LlamaModel

    counts, forward = [], LlamaModel.forward

    def counting(self, input_ids=None, **kwargs):
        counts.append(input_ids.numel())
        return forward(self, input_ids=input_ids, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LlamaModel, "forward", counting)
        yield counts


@pytest.mark.parametrize("family", ["llama", "mpt"])
@pytest.mark.parametrize("method", [(), LAMBDA], ids=["vanilla", "lambda"])
def test_outputs_are_those_of_generate_on_the_prompt_alone(
    family, method, flags, tiny_llama_dir, tiny_mpt_dir, texts, tmp_path
):
    folder = {"llama": tiny_llama_dir, "mpt": tiny_mpt_dir}[family]
    converter = {"llama": convert_llama_model, "mpt": convert_mpt_model}[family]
    # MPT's own table of ALiBi ends at its pre-training length
    positions = POSITIONS if family == "llama" or method else (20, 41)
    run_here(*flags, *method, "--model", folder, "--evaluate_positions", *positions, "--log_dir", tmp_path)
    convert = (lambda model: converter(model, 16, 4)) if method else (lambda model: model)
    expected = by_hand(folder, texts, convert, positions)
    assert found_texts(tmp_path) == expected and len({output for output, _ in expected.values()}) > 3


def test_what_a_trial_leaves(flags, tmp_path, capsys):
    run_here(*flags, *LAMBDA, "--evaluate_metrics", "--log_dir", tmp_path)
    trial = read_trial(tmp_path)
    assert trial.script == SCRIPT and trial.config["corpus"]["documents"] == len(LENGTHS)
    assert [line["position"] for line in trial.samples if line["index"] == 2] == list(POSITIONS)
    assert [line["parts"] for line in trial.samples if line["index"] == 2] == [3, 3, 3]
    assert not [line for line in trial.samples if line["index"] == 3]
    for row in trial.results["positions"]:
        lines = [line for line in trial.samples if line["position"] == row["position"]]
        expected = generation_scores([line["output"] for line in lines], [line["reference"] for line in lines])
        assert {name: row[name] for name in expected} == expected and row["documents"] == len(lines)
        assert row["prefill_seconds"] > 0 and row["tokens_per_second"] > 0
        assert row["cache_bytes"] == lines[0]["cache_bytes"] > 0
    console = capsys.readouterr().out
    assert "rougeLsum" in console and "position" in console
    assert set(console.splitlines()) <= set((tmp_path / "log.txt").read_text().splitlines())


def test_the_text_is_read_once(flags, tmp_path):
    with counted_tokens() as counts:
        run_here(*flags, "--start_data_from", 2, "--max_data_num", 1, "--log_dir", tmp_path)
    (read,) = {sum(count for count in counts if count > 1)}
    generated = sum(line["generated"] for line in samples(tmp_path))
    # the prompt's last token is a decoding step of its own: read again by the next position's prefill
    assert read == POSITIONS[-1] - 1 and counts.count(1) == generated


def test_batches_give_what_single_documents_give(flags, tmp_path):
    for method in ((), LAMBDA):
        single, batch = (tmp_path / f"{name}-{len(method)}" for name in ("single", "batch"))
        run_here(*flags, *method, "--log_dir", single)
        run_here(*flags, *method, "--log_dir", batch, "--batch_size", 4)
        assert samples(batch) == samples(single)


def test_seconds_of_a_batch_are_of_the_texts_that_go_on(flags, tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.generation.generator.Generator.prefill", prefill_in_seconds(3.0))
    run_here(*flags, "--batch_size", 5, "--log_dir", tmp_path)
    # 4 of 5 texts reach past 20 and 41, 3 past 90: each second is shared by those that were read in it
    assert [row["prefill_seconds"] for row in results(tmp_path)["positions"]] == pytest.approx([0.75, 1.5, 2.5])


def prefill_in_seconds(seconds):
    from scripts.generation.generator import Generator

    prefill = Generator.prefill

    def timed(self, input_ids, cache):
        prefill(self, input_ids, cache)
        return seconds

    return timed


def test_truncated_prompts(flags, tiny_llama_dir, texts, tmp_path):
    run_here(*flags, "--runtime_truncation", 30, "--log_dir", tmp_path / "flag")
    assert found_texts(tmp_path / "flag") == by_hand(tiny_llama_dir, texts, truncation=30)
    run_here(*flags, "--method", "truncate", "--local_branch", 30, "--log_dir", tmp_path / "method")
    assert samples(tmp_path / "method") == samples(tmp_path / "flag")


def test_where_scaling_follows_the_length_no_position_depends_on_others(flags, tiny_llama_dir, texts, tmp_path):
    run_here(*flags, "--method", "dynamic_ntk", "--start_data_from", 2, "--log_dir", tmp_path)
    scaling = {"rope_type": "dynamic", "factor": 2.0}
    expected = {}
    for position in POSITIONS:
        for text in sorted(texts.iterdir())[2:]:
            folder = tmp_path / f"{text.stem}-{position}"
            folder.mkdir()
            (folder / text.name).symlink_to(text)
            fresh = by_hand(tiny_llama_dir, folder, lambda model: scaled(model, scaling), (position,))
            expected |= {(int(text.stem), position): found for found in fresh.values()}
    assert found_texts(tmp_path) == expected and len(expected) == 2 * len(POSITIONS)


def scaled(model, scaling):
    """The same weights with RoPE scaled."""
    config = copy.deepcopy(model.config)
    config.rope_parameters |= scaling
    other = type(model)(config).eval()
    other.load_state_dict(model.state_dict())
    return other


def test_fewest_tokens_and_suppressed_ones(flags, tiny_llama_dir, texts, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama_dir)
    run_here(*flags, "--log_dir", tmp_path / "free")
    common = {tokenizer(line["output"])["input_ids"][0] for line in samples(tmp_path / "free") if line["output"]}
    limits = ("--min_new_tokens", NEW, "--suppress_tokens", *sorted(common))
    run_here(*flags, *limits, "--log_dir", tmp_path / "limited")
    options = {"min_new_tokens": NEW, "suppress_tokens": sorted(common)}
    assert found_texts(tmp_path / "limited") == by_hand(tiny_llama_dir, texts, **options)
    assert {line["generated"] for line in samples(tmp_path / "limited")} == {NEW}
    assert found_texts(tmp_path / "limited") != found_texts(tmp_path / "free")


def test_what_is_sampled_is_the_same_after_a_stop(flags, tmp_path):
    sampling = (*flags, "--do_sample")
    run_here(*sampling, "--log_dir", tmp_path / "whole")
    run_here(*sampling, "--seed", 0, "--start_data_from", 0, "--log_dir", tmp_path / "seeded")
    with stopped_after(2):
        run_here(*sampling, "--log_dir", tmp_path / "stopped")
    run_here(*sampling, "--log_dir", tmp_path / "stopped")
    assert samples(tmp_path / "stopped") == samples(tmp_path / "whole")
    run_here(*flags, "--log_dir", tmp_path / "greedy")
    assert found_texts(tmp_path / "greedy") != found_texts(tmp_path / "whole")


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


@pytest.mark.parametrize("kept", [1, 2, 2.5, 3], ids=["line 1", "line 2", "within line 3", "all lines"])
def test_killed_between_the_lines_of_a_document(kept, flags, tmp_path):
    run_here(*flags, "--log_dir", tmp_path)
    whole, journal = samples(tmp_path), tmp_path / "samples.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    of_first = sum(line["index"] == 0 for line in whole)
    assert of_first == 3
    torn = lines[int(kept)][:30] if kept != int(kept) else b""
    journal.write_bytes(b"".join(lines[: int(kept)]) + torn)
    (tmp_path / "results.json").unlink()
    with counted_tokens() as counts:
        run_here(*flags, "--log_dir", tmp_path)
    assert samples(tmp_path) == whole
    assert len(journal.read_bytes().splitlines()) == len(lines)
    again = {True: 3, False: 4}[kept == 3]  # the documents that reach past a position
    assert sum(count == POSITIONS[0] - 1 for count in counts) == again


@pytest.mark.parametrize("config", [None, "zero3_efficient_config.json"], ids=["plain", "zero3"])
def test_two_ranks(config, flags, tmp_path):
    model = tiny_model("llama")
    model.generation_config.eos_token_id = list(range(2, 60))  # texts end at different lengths: some ranks must wait
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    flags = (*flags, *LAMBDA, "--model", tmp_path / "model")
    run_here(*flags, "--log_dir", tmp_path / "one")
    sharded = ("--deepspeed_config", ROOT / "configs" / config) if config else ()
    chunks = ("--prefill_chunk", 13)  # a rank without a text must read as many as the other
    run = run_script(SCRIPT, *flags, *sharded, *chunks, "--log_dir", tmp_path / "two", ranks=2)
    assert run.returncode == 0, run.stdout + run.stderr
    assert samples(tmp_path / "two") == samples(tmp_path / "one")
    assert "longer texts in chunks of 13 tokens" in run.stdout
    assert len({line["generated"] for line in samples(tmp_path / "one")}) > 2


def test_a_text_that_does_not_fit_is_recorded_and_the_run_goes_on(flags, tmp_path, monkeypatch):
    from scripts.generation.generator import Generator

    generate = Generator.generate

    def short_of_memory(self, input_ids, *args, **kwargs):
        if input_ids.numel() > POSITIONS[1]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(self, input_ids, *args, **kwargs)

    run_here(*flags, "--log_dir", tmp_path / "whole")
    monkeypatch.setattr(Generator, "generate", short_of_memory)
    run_here(*flags, "--batch_size", 3, "--evaluate_metrics", "--log_dir", tmp_path / "short")
    read_trial(tmp_path / "short")
    near, middle, far = results(tmp_path / "short")["positions"]
    assert (near["failed"], middle["failed"], far["failed"], far["bleu"]) == (0, 0, far["documents"], None)
    for ours, theirs in zip(samples(tmp_path / "short"), samples(tmp_path / "whole")):
        assert ours["output"] == (None if ours["position"] == POSITIONS[2] else theirs["output"])


def test_nothing_of_a_batch_that_does_not_fit_is_kept_while_its_texts_are_tried(flags, tmp_path, monkeypatch):
    from scripts.generation.generator import Generator

    generate, prefill, caches = Generator.generate, Generator.prefill, []

    def short_of_memory(self, input_ids, *args, **kwargs):
        if len(input_ids) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        assert sum(cache() is not None for cache in caches) == 1
        return generate(self, input_ids, *args, **kwargs)

    def noted(self, input_ids, cache):
        caches.append(weakref.ref(cache))
        return prefill(self, input_ids, cache)

    monkeypatch.setattr(Generator, "generate", short_of_memory)
    monkeypatch.setattr(Generator, "prefill", noted)
    positions = ("--evaluate_positions", POSITIONS[0])
    run_here(*flags, *positions, "--batch_size", 5, "--log_dir", tmp_path)
    assert len(caches) == 5 and results(tmp_path)["positions"][0]["failed"] == 0


def test_positions_that_no_document_reaches_are_shown(flags, tmp_path, capsys):
    run_here(*flags, "--evaluate_metrics", "--evaluate_positions", 20, 5000, "--log_dir", tmp_path)
    assert results(tmp_path)["positions"][1] == {"position": 5000, "documents": 0, "failed": 0}
    assert "5,000          0" in capsys.readouterr().out
    with pytest.raises(UserError, match="no document .* reaches past --evaluate_positions 5000"):
        run_here(*flags, "--evaluate_positions", 6000, 5000, "--log_dir", tmp_path / "none")


def test_published_flags(tiny_llama_dir, tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "ArXiv.jsonl").write_text(json.dumps("the and: " * 60) + "\n")
    run_here(
        *("--model", tiny_llama_dir, "--tokenizer_path", tiny_llama_dir, "--use_lambda_attention"),
        *("--local_branch", 16, "--global_branch", 10, "--limit_distance", 16, "--triangle_offset", 0.0),
        *("--dataset", "the_pile", "--dataset_group", "ArXiv", "--split", "test", "--dataset_dir", tmp_path),
        *("--max_length", 100, "--truncation_side", "right", "--max_data_num", 1, "--start_data_from", 0),
        *("--batch_size", 1, "--max_generation_length", 5, "--min_new_tokens", 5, "--suppress_tokens"),
        *("--do_sample", "--seed", 0, "--evaluate_metrics", "--evaluate_positions", 32, 64),
        *("--log_dir", tmp_path / "log"),
    )
    assert [row["position"] for row in results(tmp_path / "log")["positions"]] == [32, 64]


@pytest.mark.parametrize(
    "changes, words",
    [
        (("--model", "./nowhere"), "--model ./nowhere"),
        (("--evaluate_positions", 50, "--max_length", 50), "--evaluate_positions 50 is not within --max_length 50"),
        (("--evaluate_positions", 1), "--evaluate_positions: must be at least 2"),
        (("--runtime_truncation", 1), "--runtime_truncation: must be at least 2"),
        (("--min_new_tokens", NEW + 1), f"--min_new_tokens {NEW + 1} is more than --max_generation_length {NEW}"),
        (("--suppress_tokens", 99999), "--suppress_tokens 99999 is no token of the model"),
        (("--method", "truncate", "--runtime_truncation", 9), "--runtime_truncation 9 contradicts --method truncate"),
    ],
)
def test_bad_input_is_one_sentence(changes, words, flags, tmp_path):
    with pytest.raises(UserError) as refusal:
        run_here(*flags, *changes, "--log_dir", tmp_path)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)
