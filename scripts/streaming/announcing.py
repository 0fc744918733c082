"""Before a stream is read: what is said of it, and what is refused of an unconverted model."""

import torch

from data.sources.files import words_on_unread
from models.attention.bands.config import BandsConfig
from models.attention.config import Method
from models.loading.vanilla import constant_rope_length
from models.scoring.stream_scorer import StreamScorer
from scripts.harness.model import RunnableModel
from scripts.harness.positions import beyond_table
from scripts.streaming.arguments import StreamPlan
from scripts.streaming.streams import Texts
from utils.errors import SharedError
from utils.text_tables import counted


def announcement(plan: StreamPlan, texts: Texts) -> str:
    """A sentence on the streams and their chunks; it follows the names of the model and the device."""
    length, chunk = plan.streaming_length, plan.chunk
    streams = f"{plan.streams} streams" if plan.streams > 1 else "one stream"
    if length <= chunk:
        chunks = "in one chunk"
    else:
        rest = f", the last of {length % chunk:,}" if length % chunk else ""
        chunks = f"in {-(-length // chunk):,} chunks of {chunk:,}{rest}"
    return (
        f": {streams} of {length:,} tokens {chunks}, {counted(len(texts.corpus), 'document')} of {texts.corpus.name} "
        f"in orders drawn from seed {texts.seed}{words_on_unread(texts.corpus.unread)}"
    )


def check_vanilla(model: RunnableModel, length: int) -> None:
    """Refuse a stream beyond what an unconverted model can be read to, or read to chunk by chunk."""
    constant = constant_rope_length(model.model.config)
    refusal = beyond_table(model.model, length, f"--streaming_length {length}", "at most that")
    if refusal is not None:
        raise SharedError(refusal)
    if constant is not None and length > constant:
        raise SharedError(
            f"--streaming_length {length} is beyond the {constant} tokens after which this model's RoPE scaling "
            "changes its frequencies, but not those of the keys in the cache: give at most that, or "
            "--use_lambda_attention"
        )


def full_cache_warning(scorer: StreamScorer, plan: StreamPlan, attention: Method | None, device: torch.device) -> str:
    """The memory that a model will take which keeps the keys and values of every token, in a sentence."""
    total = scorer.bytes_per_token(device) * plan.streaming_length
    reason = "without --use_lambda_attention" if attention is None else "with --triangle_offset"
    if isinstance(attention, BandsConfig):
        reason = f"with --remap_positions {attention.method}"
    return (
        f"warning: {reason} the cache keeps every token: at least {total / 2**30:.2f} GiB per stream at the end of "
        f"{plan.streaming_length:,} tokens, in memory and in each checkpoint, and time per token grows with the "
        "stream"
    )
