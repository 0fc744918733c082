"""`constant_model` reads nothing and always says the same: for plumbing checks, and as a floor for scores.

What it predicts, at every position:
- without an answer every token is equally likely, so the perplexity is exactly the vocabulary's size;
- with an answer, half of the probability is spread over all tokens, the other half over the answer's tokens
  in proportion to how often each occurs in it.
What it generates: the answer, then the end-of-sequence token.
"""

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from .assumptions import OUTPUT_CACHE, cache_of, find_cache

CONSTANT_MODEL = "constant_model"
ANSWER_SHARE = 0.5  # of the probability, when there is an answer


class ConstantConfig(PretrainedConfig):
    """`answer_ids` are the tokens of the answer, without the end-of-sequence token."""

    model_type = "constant"

    def __init__(self, vocab_size: int = 1, answer_ids: list[int] | None = None, **kwargs) -> None:
        self.vocab_size = vocab_size
        self.answer_ids = answer_ids or []
        super().__init__(**kwargs)


class ConstantBody(nn.Module):
    """The part below the LM head: one hidden number per token, always 1."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("one", torch.ones(1))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
    ) -> BaseModelOutputWithPast:
        """int64 [batch, n] -> last_hidden_state [batch, n, 1]. A cache, under either name, is handed back."""
        held = find_cache({"cache": cache, "past_key_values": past_key_values})
        return BaseModelOutputWithPast(self.one.expand(*input_ids.shape, 1), **{OUTPUT_CACHE: held})


class ConstantModel(PreTrainedModel):
    """A causal language model of which the LM head holds the logarithms of fixed probabilities."""

    config_class = ConstantConfig
    base_model_prefix = "model"

    def __init__(self, config: ConstantConfig) -> None:
        super().__init__(config)
        self.model = ConstantBody()
        self.lm_head = nn.Linear(1, config.vocab_size, bias=False)
        with torch.no_grad():
            self.lm_head.weight.copy_(_log_probabilities(config)[:, None])

    @classmethod
    def from_tokenizer(cls, tokenizer: PreTrainedTokenizerBase, answer: str | None = None) -> "ConstantModel":
        """A model over the tokenizer's vocabulary that answers `answer`; None is an empty answer."""
        answer_ids = tokenizer(answer, add_special_tokens=False)["input_ids"] if answer else []
        eos = tokenizer.eos_token_id
        return cls(ConstantConfig(vocab_size=len(tokenizer), answer_ids=answer_ids, eos_token_id=eos))

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, use_cache: bool | None = None, **cache: Cache
    ) -> CausalLMOutputWithPast:
        """int64 [batch, n] -> logits [batch, n, vocab_size]. cache: under either of its names."""
        outputs = self.model(input_ids, attention_mask, use_cache=use_cache, **cache)
        logits = self.lm_head(outputs.last_hidden_state)
        return CausalLMOutputWithPast(logits=logits, **{OUTPUT_CACHE: cache_of(outputs)})

    @torch.no_grad()
    def generate(self, input_ids: Tensor, max_new_tokens: int | None = None, **unused) -> Tensor:
        """int64 [batch, n] -> [batch, n + answer]: prompts, then at most `max_new_tokens` of the answer."""
        ends = [] if self.config.eos_token_id is None else [self.config.eos_token_id]
        reply = torch.tensor((self.config.answer_ids + ends)[:max_new_tokens], dtype=torch.int64)
        return torch.cat([input_ids, reply.to(input_ids.device).expand(len(input_ids), -1)], dim=1)


def _log_probabilities(config: ConstantConfig) -> Tensor:
    """float32 [vocab_size]."""
    uniform = torch.full((config.vocab_size,), 1 / config.vocab_size)
    if not config.answer_ids:
        return uniform.log()
    counts = torch.bincount(torch.tensor(config.answer_ids), minlength=config.vocab_size)
    return torch.lerp(uniform, counts / counts.sum(), ANSWER_SHARE).log()
