"""Loading a model as the command line names it, and what is said when it cannot be loaded."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers.integrations import deepspeed as hf_deepspeed

from models import get_model as get_model_module
from models.get_model import ModelSpec, get_model
from models.lambda_attention import LambdaConfig, TopK
from models.loading import sample
from models.loading import source as model_source
from models.loading.identity import model_identity
from models.model_base import UnsupportedModelError, supported_model_types
from tests.tiny_gguf import write_tiny_gguf
from tests.tiny_models import (
    PRETRAINING_LENGTH,
    VOCAB_SIZE,
    tiny_input_ids,
    tiny_model,
    tiny_tokenizer,
)
from utils.errors import UserError

SOURCE = model_source.Source("--model", "tiny", "tiny")
META = torch.device("meta")
"""A device that is none: what is on it was never in memory."""
LAMBDA = LambdaConfig(local_branch=8, global_branch=2, limit_distance=8)


def refusal(spec: ModelSpec, lambda_config: LambdaConfig | None = None) -> str:
    """The one sentence with which `spec` is refused."""
    with pytest.raises(UserError) as error:
        get_model(spec, lambda_config)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.fixture
def folder(tiny_llama_dir: Path, tmp_path: Path) -> Path:
    """A copy of the tiny Llama's folder, to be damaged."""
    return shutil.copytree(tiny_llama_dir, tmp_path / "model")


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_tiny_gguf(tiny_model("llama"), path)
    return path


@pytest.fixture
def saved(tmp_path: Path):
    """Saves a model with the tiny tokenizer, and gives its folder."""

    def save(model) -> Path:
        model.save_pretrained(tmp_path / model.config.model_type)
        tiny_tokenizer().save_pretrained(tmp_path / model.config.model_type)
        return tmp_path / model.config.model_type

    return save


class TestLoading:
    def test_folder(self, tiny_llama_dir):
        loaded = get_model(ModelSpec(str(tiny_llama_dir)))
        ids = tiny_input_ids(batch=1, length=20)
        assert torch.equal(loaded.model(ids).logits, tiny_model("llama")(ids).logits)
        assert not loaded.model.training
        assert loaded.tokenizer("the theme")["input_ids"] == tiny_tokenizer()("the theme")["input_ids"]

    def test_gguf_file(self, gguf_file):
        loaded = get_model(ModelSpec(str(gguf_file)))
        ids = tiny_input_ids(batch=1, length=20)
        torch.testing.assert_close(loaded.model(ids).logits, tiny_model("llama")(ids).logits)
        assert loaded.tokenizer("and the Ü")["input_ids"] == tiny_tokenizer()("and the Ü")["input_ids"]

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
    def test_dtype(self, tiny_llama_dir, gguf_file, dtype):
        for path in (tiny_llama_dir, gguf_file):
            loaded = get_model(ModelSpec(str(path), dtype=dtype))
            assert loaded.model.dtype == getattr(torch, dtype)
            assert loaded.identity["dtype"] == dtype

    def test_auto_dtype_is_the_checkpoints_own(self, folder):
        tiny_model("llama").to(torch.bfloat16).save_pretrained(folder)
        assert get_model(ModelSpec(str(folder))).model.dtype == torch.bfloat16

    def test_device_map_is_passed_on(self, tiny_llama_dir):
        assert get_model(ModelSpec(str(tiny_llama_dir), device_map="meta")).model.device.type == "meta"

    @pytest.mark.parametrize("lambda_config", [None, LAMBDA])
    @pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
    def test_weights_are_loaded_straight_to_the_device(self, tiny_llama_dir, lambda_config, dtype):
        model = get_model(ModelSpec(str(tiny_llama_dir), dtype=dtype), lambda_config, META).model
        assert {tensor.device for tensor in (*model.parameters(), *model.buffers())} == {META}
        assert model.dtype == (torch.float32 if dtype == "auto" else torch.bfloat16)

    def test_on_the_cpu_they_are_loaded_as_ever(self, tiny_llama_dir, monkeypatch):
        load, given = get_model_module.load_weights, []
        monkeypatch.setattr(get_model_module, "load_weights", lambda *args: given.append(args[2]) or load(*args))
        states = [
            get_model(ModelSpec(str(tiny_llama_dir)), None, device).model.state_dict()
            for device in (None, torch.device("cpu"))
        ]
        assert given == [{"dtype": "auto"}] * 2
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])

    def test_a_gguf_file_is_unpacked_on_the_cpu(self, gguf_file):
        assert get_model(ModelSpec(str(gguf_file)), None, META).model.device.type == "cpu"

    def test_without_accelerate_weights_pass_through_the_cpu(self, tiny_llama_dir, monkeypatch):
        monkeypatch.setattr(get_model_module, "is_accelerate_available", lambda: False)
        assert get_model(ModelSpec(str(tiny_llama_dir)), None, META).model.device.type == "cpu"

    def test_a_device_map_of_the_users_own_counts(self, tiny_llama_dir):
        spec = ModelSpec(str(tiny_llama_dir), device_map="cpu")
        assert get_model(spec, None, META).model.device.type == "cpu"

    def test_tokenizer_path(self, folder, tiny_tokenizer_dir):
        (folder / "tokenizer.json").unlink()
        loaded = get_model(ModelSpec(str(folder), tokenizer_path=str(tiny_tokenizer_dir)))
        assert len(loaded.tokenizer) == VOCAB_SIZE
        assert loaded.identity["tokenizer"] == str(tiny_tokenizer_dir)

    def test_tokenizer_without_padding_pads_with_its_end(self, folder):
        tokenizer = tiny_tokenizer()
        tokenizer.pad_token = None
        tokenizer.save_pretrained(folder)
        assert get_model(ModelSpec(str(folder))).tokenizer.pad_token == "</s>"

    def test_identity(self, tiny_llama_dir):
        model = tiny_model("llama")
        identity = get_model(ModelSpec(str(tiny_llama_dir))).identity
        assert json.loads(json.dumps(identity)) == identity
        digest = identity.pop("config_sha256")
        assert len(digest) == 64
        assert identity == {
            "name": str(tiny_llama_dir),
            "model_type": "llama",
            "pretraining_length": PRETRAINING_LENGTH,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "dtype": "float32",
            "tokenizer": str(tiny_llama_dir),
            "vocab_size": VOCAB_SIZE,
        }

    def test_parameters_that_zero3_keeps_elsewhere_are_counted(self):
        model = tiny_model("llama")
        whole = model_identity("m", "t", model)["parameters"]
        weight = model.lm_head.weight
        weight.ds_numel, weight.data = weight.numel(), torch.empty(0)
        assert model_identity("m", "t", model)["parameters"] == whole

    def test_digest_tells_configurations_apart(self, tiny_llama_dir, folder):
        same = get_model(ModelSpec(str(folder))).identity["config_sha256"]
        tiny_model("llama", rms_norm_eps=1e-3).save_pretrained(folder)
        other = get_model(ModelSpec(str(folder))).identity["config_sha256"]
        assert same == get_model(ModelSpec(str(tiny_llama_dir))).identity["config_sha256"]
        assert same != other


class TestLambdaAttention:
    def test_converts(self, tiny_llama_dir):
        ids = tiny_input_ids(batch=1, length=40)
        vanilla = get_model(ModelSpec(str(tiny_llama_dir))).model(ids).logits
        converted = get_model(ModelSpec(str(tiny_llama_dir)), LAMBDA).model(ids).logits
        within = slice(0, LAMBDA.local_branch)
        torch.testing.assert_close(converted[:, within], vanilla[:, within], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(converted[:, -1], vanilla[:, -1], atol=1e-2)

    def test_identity_is_that_of_the_vanilla_model(self, tiny_llama_dir):
        spec = ModelSpec(str(tiny_llama_dir))
        assert get_model(spec, LAMBDA).identity == get_model(spec).identity

    def test_unsupported_family_is_refused_before_its_weights_are_read(self, tmp_path):
        tiny_model("gpt2").config.save_pretrained(tmp_path)
        tiny_tokenizer().save_pretrained(tmp_path)
        with pytest.raises(UnsupportedModelError, match="gpt2") as error:
            get_model(ModelSpec(str(tmp_path)), LAMBDA)
        assert all(model_type in str(error.value) for model_type in supported_model_types())

    def test_unsupported_family_loads_as_vanilla(self, tmp_path):
        tiny_model("gpt2").save_pretrained(tmp_path)
        tiny_tokenizer().save_pretrained(tmp_path)
        assert get_model(ModelSpec(str(tmp_path))).identity["model_type"] == "gpt2"

    @pytest.mark.parametrize("model_type", ["gptj", "mpt"])
    def test_vanilla_runs_past_its_position_tables(self, tmp_path, model_type):
        tiny_model(model_type).save_pretrained(tmp_path)
        tiny_tokenizer().save_pretrained(tmp_path)
        model = get_model(ModelSpec(str(tmp_path))).model
        logits = model(tiny_input_ids(batch=1, length=2 * PRETRAINING_LENGTH)).logits
        assert logits.isfinite().all()


class TestConstantModel:
    def test_loads(self, tiny_tokenizer_dir):
        spec = ModelSpec("constant_model", str(tiny_tokenizer_dir), "bfloat16", constant_answer="and")
        loaded = get_model(spec)
        assert loaded.model.dtype == torch.bfloat16
        assert loaded.identity["name"] == "constant_model"
        assert loaded.identity["model_type"] == "constant"
        assert loaded.identity["vocab_size"] == VOCAB_SIZE
        reply = loaded.model.generate(tiny_input_ids(batch=1, length=3))[0, 3:]
        assert loaded.tokenizer.decode(reply) == "and</s>"

    def test_has_no_attention_to_convert(self, tiny_tokenizer_dir):
        assert "constant" in refusal(ModelSpec("constant_model", str(tiny_tokenizer_dir)), LAMBDA)


class TestSample:
    def test_resolves_to_the_prepared_folder(self, tiny_llama_dir, monkeypatch):
        monkeypatch.setattr(model_source, "SAMPLE_DIR", tiny_llama_dir)
        assert get_model(ModelSpec()).identity["name"] == "smollm2"

    def test_unprepared(self, tmp_path, monkeypatch):
        monkeypatch.setattr(model_source, "SAMPLE_DIR", tmp_path / "none")
        assert refusal(ModelSpec()).startswith("--model smollm2: ")
        assert "make sample" in refusal(ModelSpec())


class TestBadInput:
    @pytest.mark.parametrize("name", ["no/such/folder", "./none", "none.gguf", "~/none/x", "a b"])
    def test_no_such_file(self, name, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        message = refusal(ModelSpec(name))
        assert message.startswith(f"--model {name}: ")
        assert "a folder with config.json" in message

    def test_hub_not_reachable(self):
        message = refusal(ModelSpec("someone/no-such-model"))
        assert message.startswith("--model someone/no-such-model: there is no such folder, and as a hub name")

    def test_tokenizer_not_there(self, tiny_llama_dir):
        message = refusal(ModelSpec(str(tiny_llama_dir), tokenizer_path="no/such/folder"))
        assert message.startswith("--tokenizer_path no/such/folder: ")

    @pytest.mark.parametrize(
        ("file", "content", "expected"),
        [
            ("config.json", None, "no config.json"),
            ("config.json", '{"model_type": ', "not a valid JSON"),
            ("config.json", "{}", "model_type"),
            ("config.json", '{"model_type": "nonsense"}', "nonsense"),
            ("tokenizer.json", None, "--tokenizer_path"),
            ("tokenizer.json", "{", "--tokenizer_path"),
            ("model.safetensors", None, "model.safetensors"),
            ("model.safetensors", "hello", "the model cannot be loaded"),
        ],
    )
    def test_damaged_folder(self, folder, file, content, expected):
        (folder / file).unlink()
        if content is not None:
            (folder / file).write_text(content)
        message = refusal(ModelSpec(str(folder)))
        assert message.startswith(f"--model {folder}: ")
        assert expected in message

    def test_truncated_weights(self, folder):
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1000])
        assert "the model cannot be loaded" in refusal(ModelSpec(str(folder)))

    def test_weights_of_another_family(self, folder):
        tiny_model("gptj").save_pretrained(folder / "other")
        shutil.copy(folder / "other" / "model.safetensors", folder)
        assert "weights that its configuration calls for are missing" in refusal(ModelSpec(str(folder)))

    def test_weights_of_another_shape(self, folder):
        tiny_model("llama", intermediate_size=40).save_pretrained(folder / "other")
        shutil.copy(folder / "other" / "model.safetensors", folder)
        assert "down_proj" in refusal(ModelSpec(str(folder)))

    @pytest.mark.parametrize("content", [b"hello", b"GGUF", b"GGUF\x03\x00\x00\x00garbage"])
    def test_broken_gguf_file(self, tmp_path, content):
        path = tmp_path / "broken.gguf"
        path.write_bytes(content)
        assert refusal(ModelSpec(str(path))).startswith(f"--model {path}: ")

    def test_tokenizer_with_more_tokens_than_the_model(self, folder, tiny_tokenizer_dir):
        tiny_model("llama", vocab_size=VOCAB_SIZE - 9).save_pretrained(folder)
        message = refusal(ModelSpec(str(folder), tokenizer_path=str(tiny_tokenizer_dir)))
        assert message.startswith(f"--tokenizer_path {tiny_tokenizer_dir}: ")
        assert str(VOCAB_SIZE) in message and str(VOCAB_SIZE - 9) in message

    def test_device_that_is_not_there(self, tiny_llama_dir):
        assert "the model cannot be loaded" in refusal(ModelSpec(str(tiny_llama_dir), device_map="nonsense"))


class TestMachineCannot:
    @pytest.mark.parametrize(
        "flag, package, options",
        [
            ("--load_in_4bit", "bitsandbytes", {"load_in_4bit": True}),
            ("--device_map", "accelerate", {"device_map": "auto"}),
        ],
    )
    def test_a_flag_without_its_package(self, tiny_llama_dir, monkeypatch, flag, package, options):
        monkeypatch.setitem(sys.modules, package, None)
        message = refusal(ModelSpec(str(tiny_llama_dir), **options))
        assert message == f"{flag} needs the {package} package, which is missing here: pip install {package}"

    def test_a_gguf_file_without_its_package(self, gguf_file, monkeypatch):
        monkeypatch.setitem(sys.modules, "gguf", None)
        assert refusal(ModelSpec(str(gguf_file))).startswith(f"--model {gguf_file}: a GGUF file needs the gguf package")

    def test_4bit_is_passed_on(self):
        options = get_model_module._loading_options(ModelSpec(load_in_4bit=True), SOURCE, META)
        assert options["quantization_config"].load_in_4bit and "device_map" not in options

    def test_4bit_of_a_gguf_file(self, gguf_file):
        assert "quantized already" in refusal(ModelSpec(str(gguf_file), load_in_4bit=True))

    def test_zero3_refuses_what_it_cannot_shard(self, gguf_file, tiny_llama_dir, monkeypatch):
        zero3 = SimpleNamespace(is_zero3=lambda: True)
        monkeypatch.setattr(hf_deepspeed, "_hf_deepspeed_config_weak_ref", lambda: zero3)
        assert "convert" in refusal(ModelSpec(str(gguf_file)))
        assert refusal(ModelSpec(str(tiny_llama_dir), device_map="auto")).startswith("--device_map")
        assert refusal(ModelSpec(str(tiny_llama_dir), load_in_4bit=True)).startswith("--load_in_4bit")


def test_gguf_of_the_sample_is_asked_for_by_command(monkeypatch):
    monkeypatch.setattr(sample, "PACKAGE", "no_such_package")
    with pytest.raises(UserError, match="make sample"):
        sample.sample_gguf()


def test_a_first_layer_of_top_k_that_the_model_lacks_is_refused(tiny_llama_dir):
    config = LambdaConfig(8, 2, 8, top_k=TopK(2, 8, from_layer=2))
    assert "--top_k_from_layer 2 is not one of this model's 2 layers" in refusal(ModelSpec(str(tiny_llama_dir)), config)
