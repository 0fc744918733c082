"""Llama 2's tokenizer.model (sentencepiece) as a fast tokenizer of Transformers that gives the same ids.

`LlamaTokenizer.from_pretrained` of Transformers 5 reads the file too, but adds no <s>, and gives a text that starts
with a space other ids than sentencepiece; and as a saved LlamaTokenizer is rebuilt on loading, that cannot be mended
in it. So the tokenizer is saved under the general class, which loads tokenizer.json as it stands.
"""

from pathlib import Path

from tokenizers import Tokenizer, decoders, normalizers, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import SentencePieceExtractor

from ..errors import UserError, need_package

SPACE = "▁"
BPE_MODEL = 2  # trainer_spec.model_type in sentencepiece_model.proto
USER_DEFINED = 4  # type of a piece there: one that is never split, and takes no space before the text that follows it
CHAT_TEMPLATE = Path(__file__).with_name("llama2_chat.jinja")


def read_tokenizer(path: Path, chat: bool) -> PreTrainedTokenizerFast:
    """The tokenizer of `path`; with Llama 2's chat template if `chat`. Raises UserError."""
    extractor = _read_pieces(path)
    spec, pieces = extractor.proto.trainer_spec, extractor.proto.pieces
    ids = {"unk_token": spec.unk_id, "bos_token": spec.bos_id, "eos_token": spec.eos_id}
    special = {role: pieces[piece_id].piece for role, piece_id in ids.items()}
    template = {"chat_template": CHAT_TEMPLATE.read_text(encoding="utf-8")} if chat else {}
    backend = _backend(extractor, special["bos_token"], spec.bos_id)
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special, **template)


def _backend(extractor: SentencePieceExtractor, bos: str, bos_id: int) -> Tokenizer:
    content = extractor.extract(BPE)
    backend = Tokenizer(BPE(content["vocab"], content["merges"], fuse_unk=True, byte_fallback=True))
    backend.add_special_tokens(content["additional_special_tokens"])
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    backend.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", left=1)]
    )
    backend.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, bos_id)]
    )
    return backend


def _read_pieces(path: Path) -> SentencePieceExtractor:
    need_package(f"{path}: a sentencepiece model", "sentencepiece")
    need_package(f"{path}: a sentencepiece model", "protobuf", "google.protobuf")
    from google.protobuf.message import DecodeError

    try:
        extractor = SentencePieceExtractor(str(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): download it again") from None
    except DecodeError:
        raise UserError(f"{path} is not a sentencepiece model, as Llama 2's tokenizer is: download it again") from None
    differences = _unlike_llamas(extractor.proto)
    if differences:
        raise UserError(
            f"{path} is a sentencepiece model of another kind than Llama 2's ({', '.join(differences)}): "
            "give Llama 2's tokenizer.model"
        )
    return extractor


def _unlike_llamas(proto) -> list[str]:
    """What differs from Llama 2's: byte-pair encoding with bytes for what is unknown, one space before the text."""
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    user_defined = [piece.piece for piece in proto.pieces if piece.type == USER_DEFINED]
    found = {
        f"its model_type is {trainer.model_type}, not {BPE_MODEL} for BPE": trainer.model_type != BPE_MODEL,
        "it has no byte_fallback": not trainer.byte_fallback,
        f"its bos_id is {trainer.bos_id}": trainer.bos_id < 0,
        f"its eos_id is {trainer.eos_id}": trainer.eos_id < 0,
        "it has no add_dummy_prefix": not normalizer.add_dummy_prefix,
        "it has remove_extra_whitespaces": normalizer.remove_extra_whitespaces,
        "its normalizer changes characters": bool(normalizer.precompiled_charsmap),
        f"it has user-defined pieces such as {''.join(user_defined[:1])!r}": bool(user_defined),
    }
    return [difference for difference, is_so in found.items() if is_so]
