"""Meta's weights as a Hugging Face folder: the same numbers, in little memory, and whole or not at all."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from sentencepiece import SentencePieceProcessor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from models.get_llama2 import convert_llama_weights_to_hf as script
from models.get_llama2.convert_llama_weights_to_hf import ModelSize, convert
from models.get_llama2.meta_params import MetaParams
from models.llama import convert_llama_model
from tests.models.get_llama2.meta_release import FFN_DIM, PARAMS, meta_logits, random_weights, write_model
from tests.tiny_models import tiny_input_ids, tiny_model
from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
PIECES = 600
TINY = ModelSize("llama-2-7b-chat", shards=2, dim=32, n_layers=2, chat=True)
META_NAMES = {
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "embed_tokens": "tok_embeddings",
    "lm_head": "output",
}


@pytest.fixture
def release(tmp_path, tokenizer_model):
    """Writes a model into llama2/llama-2-tiny and returns that folder; the tokenizer lies beside it."""

    def write(weights, shards=1, **params):
        folder = write_model(tmp_path / "llama2" / "llama-2-tiny", PARAMS | params, weights, shards)
        shutil.copy(tokenizer_model, folder.parent)
        return folder

    return write


@pytest.fixture
def tiny_release(release):
    """Random weights in two shards."""
    return release(random_weights(PARAMS, PIECES, FFN_DIM), shards=2)


def in_metas_format(model):
    """The weights of a tiny Llama by Meta's names, with the rotary halves of each head side by side."""
    heads = {"q_proj": model.config.num_attention_heads, "k_proj": model.config.num_key_value_heads}
    weights = {}
    for name, tensor in model.state_dict().items():
        count = next((heads[part] for part in heads if part in name), None)
        if count:
            tensor = tensor.view(count, 2, -1, tensor.shape[1]).transpose(1, 2).reshape(tensor.shape)
        name = name.removeprefix("model.")
        for ours, metas in META_NAMES.items():
            name = name.replace(ours, metas)
        weights[name] = tensor
    return weights


def logits(model, input_ids):
    with torch.no_grad():
        return model.eval()(input_ids).logits


def loaded(folder, **options):
    return AutoModelForCausalLM.from_pretrained(folder, **options)


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("key_heads", [4, 2])
def test_round_trip_is_exact(release, tmp_path, shards, key_heads):
    model = tiny_model("llama", num_key_value_heads=key_heads, vocab_size=PIECES, intermediate_size=FFN_DIM)
    grouped = {"n_kv_heads": key_heads} if key_heads != 4 else {}
    params = {"norm_eps": model.config.rms_norm_eps, **grouped}
    convert(release(in_metas_format(model), shards, **params), tmp_path / "hf", dtype="float32")
    input_ids = tiny_input_ids(2, 40)
    assert torch.equal(logits(loaded(tmp_path / "hf"), input_ids), logits(model, input_ids))


@pytest.mark.parametrize("shards", [1, 2])
def test_logits_are_those_of_metas_model(release, tmp_path, shards):
    own = {"n_kv_heads": 2, "norm_eps": 0.01, "rope_theta": 50.0, "ffn_dim_multiplier": 1.3, "vocab_size": 604}
    params = PARAMS | own
    weights = random_weights(params, vocab_size=604, ffn_dim=112)  # 1.3 x 85 is 110
    convert(release(weights, shards, **own), tmp_path / "hf", dtype="float32")
    input_ids = tiny_input_ids(1, 40)
    torch.testing.assert_close(
        logits(loaded(tmp_path / "hf"), input_ids)[0], meta_logits(params, weights, input_ids[0])
    )


@pytest.mark.parametrize(
    ("params", "ffn_dim"),
    [
        (MetaParams(4096, 32, 32, 32, multiple_of=256), 11008),
        (MetaParams(5120, 40, 40, 40, multiple_of=256), 13824),
        (MetaParams(8192, 80, 64, 8, multiple_of=4096, ffn_dim_multiplier=1.3), 28672),
    ],
    ids=["7B", "13B", "70B"],
)
def test_published_intermediate_sizes(params, ffn_dim):
    assert params.ffn_dim == ffn_dim


@pytest.mark.parametrize("dtype", [None, "bfloat16", "float32"])
def test_folder_as_transformers_reads_it(tiny_release, tokenizer_model, tmp_path, dtype):
    convert(tiny_release, tmp_path / "hf", **({"dtype": dtype} if dtype else {}))
    config, model = AutoConfig.from_pretrained(tmp_path / "hf"), loaded(tmp_path / "hf")
    assert (config.model_type, config.vocab_size, config.max_position_embeddings) == ("llama", PIECES, 4096)
    assert model.dtype == config.dtype == getattr(torch, dtype or "float16")
    norm = random_weights(PARAMS, PIECES, FFN_DIM)["norm.weight"]
    assert torch.equal(model.model.norm.weight, norm.to(model.dtype))
    generation = GenerationConfig.from_pretrained(tmp_path / "hf")
    assert (generation.bos_token_id, generation.eos_token_id, generation.do_sample) == (1, 2, None)
    assert (config.bos_token_id, config.eos_token_id) == (1, 2)
    ids = SentencePieceProcessor(model_file=str(tokenizer_model)).encode(" two  spaces")
    assert AutoTokenizer.from_pretrained(tmp_path / "hf")(" two  spaces")["input_ids"] == [1, *ids]


def test_index_names_every_tensor(tiny_release, tmp_path):
    convert(tiny_release, tmp_path / "hf")
    index = json.loads((tmp_path / "hf" / "model.safetensors.index.json").read_text())
    model = loaded(tmp_path / "hf")
    assert index["weight_map"].keys() == model.state_dict().keys()
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in model.state_dict().values())
    assert sorted(set(index["weight_map"].values())) == [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]


def test_converts_to_lambda_attention(tiny_release, tmp_path):
    """Equal within the local branch, and it generates beyond it."""
    convert(tiny_release, tmp_path / "hf", dtype="float32")
    model, input_ids = loaded(tmp_path / "hf"), tiny_input_ids(1, 12)
    vanilla = logits(model, input_ids)
    model = convert_llama_model(model, 16, 4)
    torch.testing.assert_close(logits(model, input_ids), vanilla)
    assert model.generate(input_ids, min_new_tokens=20, max_new_tokens=20).shape == (1, 32)


def test_one_layer_in_memory_at_a_time(tiny_release, tmp_path, monkeypatch):
    """Shards are mapped, and of what is written nothing is left when the next layer's file is."""
    written, mapped = [], []
    save_file, load = script.save_file, torch.load

    def watched_save(tensors, *rest, **options):
        assert not any(tensor() is not None for tensor in written)
        written.extend(weakref.ref(tensor) for tensor in tensors.values())
        save_file(tensors, *rest, **options)

    def watched_load(*args, **options):
        mapped.append(options["mmap"] and options["weights_only"])
        return load(*args, **options)

    monkeypatch.setattr(script, "save_file", watched_save)
    monkeypatch.setattr(torch, "load", watched_load)
    convert(tiny_release, tmp_path / "hf")
    assert len(written) == 2 * 9 + 3
    assert mapped == [True, True]


def test_model_size_finds_its_folder(tiny_release, tmp_path, monkeypatch):
    """The folder that the download makes, the tokenizer beside it, and the template of chat models."""
    monkeypatch.setitem(script.MODEL_SIZES, "7B-chat", TINY)
    tiny_release.rename(tiny_release.with_name("llama-2-7b-chat"))
    convert(tiny_release.parent, tmp_path / "hf", "7B-chat")
    rendered = AutoTokenizer.from_pretrained(tmp_path / "hf").apply_chat_template(
        [{"role": "user", "content": "Hello"}], tokenize=False
    )
    assert rendered == "<s>[INST] Hello [/INST]"


def test_model_sizes():
    assert sorted(script.MODEL_SIZES) == sorted("7B 7B-chat 7Bf 13B 13B-chat 13Bf 70B 70B-chat 70Bf".split())
    assert script.MODEL_SIZES["70Bf"] == script.MODEL_SIZES["70B-chat"]
    assert script.MODEL_SIZES["13B"] == ModelSize("llama-2-13b", 2, 5120, 40, chat=False)


def edit_params(folder, **fields):
    path = folder / "params.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def edit_shard(folder, number, edit):
    path = folder / f"consolidated.0{number}.pth"
    tensors = torch.load(path, weights_only=True)
    edit(tensors)
    torch.save(tensors, path)


def half(tensors):
    tensors.update({name: tensor.half() for name, tensor in tensors.items()})


def whole_numbers(tensors):
    tensors["norm.weight"] = tensors["norm.weight"].long()


def too_large(tensors):
    tensors["layers.1.feed_forward.w2.weight"][0, 0] = 1e5


SPOILT = {
    "no shard": (lambda f: [path.unlink() for path in f.glob("*.pth")], "consolidated.00.pth is missing"),
    "first shard missing": (lambda f: (f / "consolidated.00.pth").unlink(), "consolidated.00.pth is missing"),
    "last shard missing": (lambda f: (f / "consolidated.01.pth").unlink(), "a shard is missing, or is another"),
    "shard cut short": (lambda f: os.truncate(f / "consolidated.01.pth", 5000), "01.pth is not a whole checkpoint"),
    "shard empty": (lambda f: os.truncate(f / "consolidated.01.pth", 0), "01.pth is not a whole checkpoint"),
    "no tensors": (lambda f: torch.save({"a": 1}, f / "consolidated.01.pth"), "01.pth is not a checkpoint of Meta's"),
    "code in a shard": (lambda f: torch.save(Path(), f / "consolidated.01.pth"), "01.pth is not a whole checkpoint"),
    "tensor missing": (lambda f: edit_shard(f, 1, lambda t: t.pop("norm.weight")), "01.pth has no norm.weight"),
    "tensor too many": (
        lambda f: edit_shard(f, 1, lambda t: t.update({"bias": torch.zeros(1)})),
        "01.pth holds bias, which the model of params.json has not",
    ),
    "shards of two dtypes": (lambda f: edit_shard(f, 1, half), "weight is float16 where float32"),
    "no floating point": (lambda f: edit_shard(f, 0, whole_numbers), "norm.weight is int64 where"),
    "beyond float16": (lambda f: edit_shard(f, 0, too_large), "not finite in float16: give --dtype bfloat16"),
    "no params": (lambda f: (f / "params.json").unlink(), "there is no params.json in"),
    "params no JSON": (lambda f: (f / "params.json").write_text("{"), "params.json is not JSON"),
    "params no text": (lambda f: (f / "params.json").write_bytes(b"\xff"), "params.json is not JSON"),
    "params a list": (lambda f: (f / "params.json").write_text("[]"), "params.json holds no JSON object"),
    "no dim": (lambda f: edit_params(f, dim=None), 'params.json has no "dim"'),
    "n_layers text": (lambda f: edit_params(f, n_layers="2"), '"n_layers" is "2" where a whole number above 0'),
    "n_layers true": (lambda f: edit_params(f, n_layers=True), '"n_layers" is true where a whole number above 0'),
    "norm_eps NaN": (lambda f: edit_params(f, norm_eps=float("nan")), '"norm_eps" is NaN where a number above 0'),
    "vocab_size 0": (lambda f: edit_params(f, vocab_size=0), '"vocab_size" is 0 where'),
    "vocab_size low": (lambda f: edit_params(f, vocab_size=599), '"vocab_size" 599 is below the 600 pieces'),
    "other layers": (lambda f: edit_params(f, n_layers=3), "has no layers.2.attention.wq.weight"),
    "other dim": (lambda f: edit_params(f, dim=64), "which is not one of 2 equal shares"),
    "odd heads": (lambda f: edit_params(f, n_heads=32), "does not divide into 32 heads of even size"),
    "odd key heads": (lambda f: edit_params(f, n_kv_heads=3), 'is no multiple of "n_kv_heads" 3'),
    "not Llama 2": (lambda f: edit_params(f, use_scaled_rope=True), '"use_scaled_rope" is nothing that Llama 2 has'),
    "no tokenizer": (lambda f: (f.parent / "tokenizer.model").unlink(), "there is no tokenizer.model in"),
}


@pytest.mark.parametrize(("spoil", "message"), SPOILT.values(), ids=SPOILT)
def test_bad_release_is_one_sentence_and_leaves_nothing(tiny_release, tmp_path, spoil, message):
    spoil(tiny_release)
    with pytest.raises(UserError) as error:
        convert(tiny_release, tmp_path / "out" / "hf")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("tiny, three shards", r"consolidated\.02\.pth is missing"),
        ("tiny, one shard", "holds 2 shards where --model_size means 1"),
    ],
)
def test_wrong_model_size(tiny_release, tmp_path, monkeypatch, size, message):
    monkeypatch.setitem(script.MODEL_SIZES, "tiny, three shards", ModelSize("x", 3, 32, 2, chat=False))
    monkeypatch.setitem(script.MODEL_SIZES, "tiny, one shard", ModelSize("x", 1, 32, 2, chat=False))
    with pytest.raises(UserError, match=message):
        convert(tiny_release, tmp_path / "hf", size)


def test_a_smaller_model_in_metas_format_is_tried_out(tiny_release, tmp_path, capsys):
    convert(tiny_release, tmp_path / "hf", "70B")
    assert "warning: --model_size 70B is 80 layers of 8192, and" in (told := capsys.readouterr().err)
    assert told.endswith("params.json is of a model with 2 layers of 32: that one is written\n")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "hf").config.num_hidden_layers == 2


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=str)
def test_failure_midway_leaves_nothing(tiny_release, tmp_path, monkeypatch, error):
    def failing(tensors, path, **_):
        path.write_bytes(b"half")
        if "00002" in path.name:
            raise error

    monkeypatch.setattr(script, "save_file", failing)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else UserError):
        convert(tiny_release, tmp_path / "out" / "hf")
    assert not list(tmp_path.glob("out/*"))


def test_full_disk_is_told_before_the_work(tiny_release, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 1000))
    with pytest.raises(UserError, match=r"--output_dir .*/hf: the disk has 0\.0 GiB free where the weights take"):
        convert(tiny_release, tmp_path / "out" / "hf")
    assert not list(tmp_path.glob("out/*"))


def test_existing_output_is_kept(tiny_release, tmp_path):
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "mine").touch()
    with pytest.raises(UserError, match="--output_dir .*/hf is there already"):
        convert(tiny_release, tmp_path / "hf")
    assert [path.name for path in (tmp_path / "hf").iterdir()] == ["mine"]


def test_what_a_kill_left_is_replaced_and_an_empty_folder_filled(tiny_release, tmp_path):
    for name in ("hf", "hf.partial"):
        (tmp_path / name).mkdir()
    (tmp_path / "hf.partial" / "model-00009-of-00009.safetensors").touch()
    convert(tiny_release, tmp_path / "hf")
    assert "model-00009-of-00009.safetensors" not in os.listdir(tmp_path / "hf")
    assert loaded(tmp_path / "hf").config.num_hidden_layers == 2
    assert not (tmp_path / "hf.partial").exists()


def test_two_runs_into_one_folder(tiny_release, tmp_path):
    (tmp_path / "hf.partial").mkdir()
    other = os.open(tmp_path / "hf.partial", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(UserError, match=r"another run is writing .*hf\.partial"):
        convert(tiny_release, tmp_path / "hf")
    os.close(other)
    assert (tmp_path / "hf.partial").exists()


def run_script(*flags):
    line = [sys.executable, "models/get_llama2/convert_llama_weights_to_hf.py", *map(str, flags)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_as_a_user_calls_it(tiny_release, tmp_path):
    flags = ("--input_dir", tiny_release, "--output_dir", tmp_path / "hf", "--dtype", "bfloat16")
    done = run_script(*flags, "--max_position_embeddings", 2048)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"wrote {tmp_path / 'hf'}\n"
    config = AutoConfig.from_pretrained(tmp_path / "hf")
    assert (config.max_position_embeddings, config.dtype) == (2048, torch.bfloat16)
    again = run_script(*flags)
    assert again.returncode == 2
    assert again.stderr.startswith("error: --output_dir") and again.stderr.count("\n") == 1
