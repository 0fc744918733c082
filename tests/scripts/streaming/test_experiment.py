"""scripts/eval_infinite_ppl.py as a user calls it: exact numbers, ranks, refusals."""

import gc
import json
import tracemalloc

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer

from data.token_stream import pass_order
from models.attention import positions
from models.attention.config import LambdaConfig
from scripts.streaming.checkpoints import StreamCheckpoints
from scripts.streaming.experiment import Reading
from scripts.streaming.saving import Saving
from scripts.streaming.token_nll import TokenNllFile
from tests.scripts.running import results, run_script
from tests.scripts.streaming.stream_trials import (
    CHUNK,
    CONFIGS,
    LAMBDA,
    LENGTH,
    METHODS,
    SCRIPT,
    WORDS,
    killed_at,
    nll_by_hand,
    run_here,
    samples,
    stopped_trial,
    stream_by_hand,
    sums,
    token_nll,
    write_texts,
)
from tests.tiny_models import tiny_model, tiny_tokenizer
from utils.errors import UserError
from utils.trials.nll_of_stream import linear_edges, log_edges
from utils.trials.trial import Trial


@pytest.mark.core
@pytest.mark.parametrize("limit", [9, 16, 40])
@pytest.mark.parametrize("model_type", ["llama", "gptj", "mpt"])
def test_every_tokens_nll_is_that_of_one_forward_whatever_the_chunk(
    model_type, limit, flags, model_dirs, texts, tmp_path
):
    model_dir = model_dirs[model_type]
    input_ids = stream_by_hand(texts, AutoTokenizer.from_pretrained(model_dir), LENGTH)
    expected = nll_by_hand(model_dir, input_ids, LambdaConfig(16, 4, limit))
    for chunk in (11, 45, 1000):
        log_dir = tmp_path / str(chunk)
        changed = ("--model", model_dir, "--limit_distance", limit, "--max_length", chunk, "--save_steps", 1000)
        run_here(*flags, *LAMBDA, *changed, "--log_dir", log_dir)
        np.testing.assert_allclose(token_nll(log_dir), expected, rtol=0, atol=1e-5)


def test_chunks_of_one_token(flags, whole, tmp_path):
    run_here(*flags, *LAMBDA, "--max_length", 1, "--save_steps", 100, "--log_dir", tmp_path)
    np.testing.assert_allclose(token_nll(tmp_path), token_nll(whole), rtol=0, atol=1e-5)
    assert [line["tokens"] for line in samples(tmp_path)] == [0] + [1] * (LENGTH - 1)


def test_vanilla_is_the_unmodified_model_and_says_what_memory_it_takes(flags, model_dirs, texts, tmp_path, capsys):
    run_here(*flags, "--log_dir", tmp_path)
    input_ids = stream_by_hand(texts, tiny_tokenizer(), LENGTH)
    expected = nll_by_hand(model_dirs["llama"], input_ids, None)
    np.testing.assert_allclose(token_nll(tmp_path), expected, rtol=0, atol=1e-5)
    said = capsys.readouterr().out
    assert "warning: without --use_lambda_attention the cache keeps every token: at least 0.00 GiB per stream" in said
    assert results(tmp_path)["streams"][0]["cache_bytes"] == LENGTH * 2 * 2 * 2 * 8 * 4


def test_what_a_trial_leaves(flags, whole, tiny_tokenizer_dir, texts):
    nll, found, arrays = token_nll(whole).astype(np.float64), results(whole), sums(whole)
    assert len(nll) == found["tokens"] == LENGTH - 1
    assert found["nll"] == pytest.approx(nll.mean(), rel=1e-9)
    assert found["perplexity"] == pytest.approx(np.exp(nll.mean()), rel=1e-9)
    for kind, edges in (("linear", linear_edges(LENGTH)), ("log", log_edges(LENGTH))):
        assert arrays[f"{kind}_edges"].tolist() == edges.tolist()
        inside = np.add.reduceat(np.concatenate([[0.0], nll]), edges[:-1])
        np.testing.assert_allclose(arrays[f"{kind}_sum"], inside[None], rtol=1e-12)
    ends = [*range(CHUNK, LENGTH, CHUNK), LENGTH]
    assert [(line["index"], line["end"]) for line in samples(whole)] == list(enumerate(ends))
    assert samples(whole)[1]["nll"] == pytest.approx(nll[31:63].mean())
    config = json.loads((whole / "config.json").read_text())
    assert config["lambda_attention"]["local_branch"] == 16 and config["corpus"]["documents"] == len(WORDS)
    names = sorted(path.name for path in whole.iterdir())
    assert names == "config.json log.txt results.json samples.jsonl stats.npz token_nll_0000.f32".split()
    assert f"one stream of {LENGTH} tokens in 10 chunks of {CHUNK}, the last of 12" in (whole / "log.txt").read_text()


def test_memory_is_flat(flags, tmp_path, monkeypatch):
    sizes, commit = [], StreamCheckpoints.commit

    def measuring_commit(self, number, *arguments):
        commit(self, number, *arguments)
        sizes.append((tmp_path / f"checkpoint-{number:09d}" / "stream_0000.safetensors").stat().st_size)

    monkeypatch.setattr(StreamCheckpoints, "commit", measuring_commit)
    run_here(*flags, *LAMBDA, "--streaming_length", 1000, "--log_dir", tmp_path)
    assert len(sizes) == 31 and len(set(sizes)) == 1
    lines = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert all(line["memory_bytes"] > 0 for line in lines)


def live_bytes():
    """Of all tensors, and of what Python and numpy hold; to be called while tracemalloc traces."""
    gc.collect()
    # Not their subclasses: torch's fake tensors, which other tests may have left, have no memory.
    tensors = [thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, torch.nn.Parameter)]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values()) + tracemalloc.get_traced_memory()[0]


def test_no_chunk_leaves_anything_in_memory(flags, tmp_path, monkeypatch):
    chunk, sizes, begin = 2000, [], Saving.begin

    def measuring_begin(saving, *given):
        begin(saving, *given)
        saving.wait()
        sizes.append(live_bytes())

    monkeypatch.setattr(Saving, "begin", measuring_begin)
    monkeypatch.setattr(positions, "CACHED_BLOCKS", 2)  # they fill up within few chunks
    size = ("--streaming_length", 50 * chunk, "--max_length", chunk, "--save_steps", 10)
    tracemalloc.start()
    try:
        run_here(*flags, *LAMBDA, *size, "--log_dir", tmp_path)
    finally:
        tracemalloc.stop()
    assert len(sizes) == 4
    assert sizes[3] - sizes[1] < 20 * chunk * 4 / 2  # half a float32 per token in between, 80 KB


def test_the_nll_of_single_tokens_can_be_read_while_the_run_goes_on(flags, whole, tmp_path, monkeypatch):
    keep, seen = Reading.keep, []

    def reading_keep(self, *given):
        keep(self, *given)
        seen.append(token_nll(tmp_path))
        assert len(seen[-1]) == self.standing.position - 1

    monkeypatch.setattr(Reading, "keep", reading_keep)
    run_here(*flags, *LAMBDA, "--log_dir", tmp_path)
    assert len(seen) == 10 and all((part == token_nll(whole)[: len(part)]).all() for part in seen)


def test_single_tokens_are_on_disk_before_the_results_say_that_all_is_done(flags, tmp_path, monkeypatch):
    steps, sync, finish = [], TokenNllFile.sync, Trial.finish
    monkeypatch.setattr(TokenNllFile, "sync", lambda self: (sync(self), steps.append(self.tokens)))
    monkeypatch.setattr(Trial, "finish", lambda self, results: (steps.append("finished"), finish(self, results)))
    run_here(*flags, *LAMBDA, "--save_steps", 1000, "--log_dir", tmp_path)
    assert steps == [LENGTH - 1, "finished"]


def assert_streams_are(log_dir, single, atol):
    """Three streams against the three log dirs of single ones."""
    found = results(log_dir)
    assert [stream["seed"] for stream in found["streams"]] == [7, 8, 9]
    for stream, other in enumerate(single):
        np.testing.assert_allclose(token_nll(log_dir, stream), token_nll(other), rtol=0, atol=atol)
        np.testing.assert_allclose(sums(log_dir)["log_sum"][stream], sums(other)["log_sum"][0], rtol=atol, atol=atol)
        for key in ("documents", "passes", "tokens", "cache_bytes"):
            assert found["streams"][stream][key] == results(other)["streams"][0][key]
    means = [results(other)["nll"] for other in single]
    assert found["nll"] == pytest.approx(np.mean(means), abs=atol)
    assert found["nll_spread"] == pytest.approx(np.std(means, ddof=1), abs=atol)
    assert found["tokens"] == 3 * (LENGTH - 1)


@pytest.fixture(scope="module")
def single_streams(flags, tmp_path_factory):
    folder = tmp_path_factory.mktemp("single")
    for seed in (7, 8, 9):
        run_here(*flags, *LAMBDA, "--seed", seed, "--log_dir", folder / str(seed))
    return [folder / str(seed) for seed in (7, 8, 9)]


def test_streams_in_one_batch_are_three_single_runs(flags, single_streams, tmp_path):
    run_here(*flags, *LAMBDA, "--seed", 7, "--streams", 3, "--log_dir", tmp_path)
    assert_streams_are(tmp_path, single_streams, atol=1e-5)
    assert len({tuple(token_nll(tmp_path, stream)) for stream in range(3)}) == 3


def test_two_replicated_ranks_share_three_streams_and_go_on_where_one_stopped(flags, single_streams, tmp_path):
    flags = (*flags, *LAMBDA, "--seed", 7, "--streams", 3, "--log_dir", tmp_path)
    with killed_at(Trial, "append_samples", 4):
        run_here(*flags)
    run = run_script(SCRIPT, *flags, "--deepspeed_config", CONFIGS / "replicated_config.json", ranks=2)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "going on from token 96" in run.stdout
    assert_streams_are(tmp_path, single_streams, atol=1e-5)


@pytest.mark.core
def test_two_sharded_ranks_read_the_same_stream_and_go_on_where_one_stopped(flags, whole, tmp_path):
    stopped_trial(flags, tmp_path)
    config = CONFIGS / "zero3_efficient_config.json"
    run = run_script(SCRIPT, *flags, *LAMBDA, "--log_dir", tmp_path, "--deepspeed_config", config, ranks=2)
    assert run.returncode == 0, run.stdout + run.stderr
    np.testing.assert_allclose(token_nll(tmp_path), token_nll(whole), rtol=0, atol=1e-6)
    assert results(tmp_path)["nll"] == pytest.approx(results(whole)["nll"], abs=1e-6)
    assert results(tmp_path)["tokens"] == LENGTH - 1 and len(samples(tmp_path)) == 10


def test_a_rank_without_work_is_refused(flags, tmp_path):
    run = run_script(SCRIPT, *flags, *LAMBDA, "--log_dir", tmp_path, ranks=2)
    errors = [line for line in run.stderr.splitlines() if line.startswith("error")]
    assert run.returncode == 2 and len(errors) == 1 and "Traceback" not in run.stdout + run.stderr
    assert "--streams 1 leaves 1 of 2 ranks without work" in errors[0]


def test_a_stream_shorter_than_a_chunk(flags, whole, tmp_path, capsys):
    run_here(*flags, *LAMBDA, "--max_length", 128_000, "--log_dir", tmp_path)
    np.testing.assert_allclose(token_nll(tmp_path), token_nll(whole), rtol=0, atol=1e-5)
    assert f"one stream of {LENGTH} tokens in one chunk, 5 documents" in capsys.readouterr().out


def test_the_shortest_stream_scores_one_token(flags, whole, tmp_path):
    run_here(*flags, *LAMBDA, "--global_branch", 1, "--streaming_length", 2, "--log_dir", tmp_path)
    np.testing.assert_allclose(token_nll(tmp_path), token_nll(whole)[:1], rtol=0, atol=1e-5)


def test_a_corpus_shorter_than_a_chunk_is_read_again_and_again(flags, tiny_llama_dir, tmp_path, capsys):
    texts = write_texts(tmp_path / "texts", (3, 2))
    run_here(*flags, *LAMBDA, "--dataset", texts, "--max_length", 200, "--log_dir", tmp_path / "log")
    input_ids = stream_by_hand(texts, tiny_tokenizer(), LENGTH)
    expected = nll_by_hand(tiny_llama_dir, input_ids, LambdaConfig(16, 4, 16))
    np.testing.assert_allclose(token_nll(tmp_path / "log"), expected, rtol=0, atol=1e-5)
    passes, shown = results(tmp_path / "log")["streams"][0]["passes"], capsys.readouterr().out
    assert passes > 5 and f"({passes:.2f} passes over the corpus)" in shown
    assert shown.count("2 documents lasted for fewer than 200 tokens: the text is read again, in another order") == 1


@pytest.mark.parametrize("flag, separator", [("eos", [2]), ("none", []), ("-\\n", "-\n"), ("\\n\\n", "\n\n")])
def test_what_stands_between_documents(flag, separator, flags, tiny_llama_dir, texts, tmp_path):
    run_here(*flags, *LAMBDA, f"--document_separator={flag}", "--log_dir", tmp_path)
    input_ids = stream_by_hand(texts, tiny_tokenizer(), LENGTH, separator=separator)
    expected = nll_by_hand(tiny_llama_dir, input_ids, LambdaConfig(16, 4, 16))
    np.testing.assert_allclose(token_nll(tmp_path), expected, rtol=0, atol=1e-5)


def test_the_constant_model_has_the_perplexity_of_its_vocabulary(flags, tiny_tokenizer_dir, tmp_path):
    flags = (*flags, "--model", "constant_model", "--tokenizer_path", tiny_tokenizer_dir, "--log_dir", tmp_path)
    with killed_at(Trial, "append_samples", 5):
        run_here(*flags)
    run_here(*flags)
    assert results(tmp_path)["perplexity"] == pytest.approx(len(tiny_tokenizer()), rel=1e-5)


def test_a_table_of_positions_is_read_to_its_end_and_not_beyond(flags, model_dirs, texts, tmp_path):
    flags = (*flags, "--model", model_dirs["gpt2"], "--log_dir", tmp_path)
    with pytest.raises(UserError, match="--streaming_length 65 is beyond this model's table of 64 positions"):
        run_here(*flags, "--streaming_length", 65)
    assert not (tmp_path / "config.json").exists()
    run_here(*flags, "--streaming_length", 64)
    expected = nll_by_hand(model_dirs["gpt2"], stream_by_hand(texts, tiny_tokenizer(), 64), None)
    np.testing.assert_allclose(token_nll(tmp_path), expected, rtol=0, atol=1e-5)


def test_a_scaling_that_follows_the_length_is_read_until_it_changes_and_not_beyond(flags, texts, tmp_path):
    model = tiny_model(rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10_000.0})
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    constant = model.config.max_position_embeddings
    flags = (*flags, "--model", tmp_path / "model", "--log_dir", tmp_path / "log")
    with pytest.raises(UserError, match=f"--streaming_length {constant + 1} is beyond the {constant} tokens after"):
        run_here(*flags, "--streaming_length", constant + 1)
    run_here(*flags, "--streaming_length", constant)
    expected = nll_by_hand(tmp_path / "model", stream_by_hand(texts, tiny_tokenizer(), constant), None)
    np.testing.assert_allclose(token_nll(tmp_path / "log"), expected, rtol=0, atol=1e-5)


def test_keeping_the_middle_is_warned_of(flags, tmp_path, capsys):
    run_here(*flags, *METHODS["middle"], "--log_dir", tmp_path)
    said = capsys.readouterr().out
    assert "warning: with --triangle_offset the cache keeps every token: at least 0.00 GiB per stream" in said


@pytest.mark.parametrize("lengths, words", [((0, 0), "its 2 documents hold no token to score"), ((), "--dataset")])
def test_an_empty_corpus_is_named(lengths, words, flags, tmp_path):
    texts = write_texts(tmp_path / "texts", lengths)
    with pytest.raises(UserError, match=words):
        run_here(*flags, *LAMBDA, "--dataset", texts, "--log_dir", tmp_path / "log")


def extended_tokenizer(folder, **special):
    """The tiny tokenizer with a token more than the model has."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<new>"])
    for name, token in special.items():
        setattr(tokenizer, name, token)
    if "bos_token" in special:
        beginning = (special["bos_token"], tokenizer.bos_token_id)
        processor = TemplateProcessing(single=f"{beginning[0]} $A", special_tokens=[beginning])
        tokenizer.backend_tokenizer.post_processor = processor
    tokenizer.save_pretrained(folder)
    return folder


def test_a_token_that_the_model_does_not_know_is_named_and_what_came_before_is_kept(flags, tmp_path):
    tokenizer = extended_tokenizer(tmp_path / "tokenizer")
    texts = write_texts(tmp_path / "texts", (30, 30, 30))
    last = pass_order(3, 0, 0)[-1]
    (texts / f"{last:03d}.txt").write_text("the <new> and")
    flags = (*flags, "--dataset", texts, "--tokenizer_path", tokenizer, "--log_dir", tmp_path / "log")
    with pytest.raises(UserError, match=rf"document '00{last}.txt' has the token '<new>' .* --tokenizer_path"):
        run_here(*flags, *LAMBDA)
    assert len(samples(tmp_path / "log")) > 0 and list((tmp_path / "log").glob("checkpoint-*"))


@pytest.mark.parametrize(
    "special, separator",
    [({}, "<new>"), ({"eos_token": "<new>"}, "eos"), ({"bos_token": "<new>"}, "none")],
    ids=["separator", "eos", "bos"],
)
def test_a_separator_or_beginning_that_the_model_does_not_know_is_named(special, separator, flags, tmp_path):
    tokenizer = extended_tokenizer(tmp_path / "tokenizer", **special)
    flags = (*flags, "--tokenizer_path", tokenizer, "--document_separator", separator, "--log_dir", tmp_path / "log")
    with pytest.raises(UserError, match="'<new>'"):
        run_here(*flags, *LAMBDA)


def test_logits_that_are_no_numbers_are_named(flags, tiny_llama_dir, texts, tmp_path):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_llama_dir), tiny_tokenizer()
    input_ids = stream_by_hand(texts, tokenizer, LENGTH)
    broken = next(token for token in input_ids[150:] if token not in input_ids[:150])
    with torch.no_grad():
        model.get_input_embeddings().weight[broken] = float("nan")
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    place = input_ids.index(broken)
    with pytest.raises(UserError, match=r"the NLL of stream 0 is nan at position \d+: .* --dtype float32"):
        run_here(*flags, *LAMBDA, "--model", tmp_path / "model", "--log_dir", tmp_path / "log")
    assert len(samples(tmp_path / "log")) == place // CHUNK
    assert len(token_nll(tmp_path / "log")) == place // CHUNK * CHUNK - 1


@pytest.mark.parametrize(
    "changes, words",
    [
        (("--model", "./nowhere"), "--model ./nowhere"),
        (("--dataset", "./nowhere.txt"), "--dataset nowhere.txt"),
        (("--start_data_from", "5"), "--start_data_from 5 is beyond the end"),
        (("--log_dir", "/proc/nowhere"), "--log_dir /proc/nowhere cannot be written"),
        (("--deepspeed_config", "./nowhere.json"), "--deepspeed_config ./nowhere.json cannot be read"),
    ],
)
def test_bad_input_is_one_sentence(changes, words, flags, tmp_path):
    with pytest.raises(UserError) as refusal:
        run_here(*flags, *LAMBDA, "--log_dir", tmp_path, *changes)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_help_is_complete():
    run = run_script(SCRIPT, "--help")
    assert run.returncode == 0
    lengths, checkpoints = ("--streaming_length", "--max_length"), ("--save_steps", "--save_seconds", "--max_seconds")
    for flag in (*lengths, *checkpoints, "--document_separator", "--streams", "--token_cache"):
        assert flag in run.stdout
