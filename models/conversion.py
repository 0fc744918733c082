"""Give a Transformers model Λ-attention in place, and take it back.

A family (`models/llama.py`, ...) says only where its attention modules, their projections and positions are.
Converting binds one shared forward to each attention module, and one hook before the base model that reads the
padding, makes the cache and keeps Transformers from building any mask.
"""

import logging

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache

from .assumptions import (
    ATTENTION_MASK,
    CACHE_NAMES,
    PREPARE,
    UNUSED_BY_ATTENTION,
    cache_name,
    check_version,
    find_cache,
    forward_names,
    handed_over_otherwise,
    refuse_unknown,
    unused_modules,
)
from .attention.compiled import untraced
from .attention.config import AttentionLayer, LambdaConfig, Method
from .attention.decode.cache import LambdaCache
from .attention.decode.recurrent import planned_layers
from .attention.forwards import Replaced, forward_name, make_nothing, replace_forward, restore_forward
from .attention.inputs import (
    as_lambda_cache,
    check_layers_agree,
    check_positions,
    new_columns,
    refuse_other_rank,
    refuse_two_caches,
)
from .attention.norms import fused_norm, rms_norms
from .attention.ragged import RealTokens
from .attention.running import Running, begin_tables
from .attention.sequence.caches import guard_generation
from .attention.sequence.group import Ranks, SequenceGroup, check_config, real_tokens
from .attention.settings import SAME_AS_LOCAL
from .converting.attention_module import attention_forward
from .converting.family import Family, check_parts, check_shared, describe_layers, layer_positions, plan_layers
from .converting.generating import Generation
from .converting.moving import check_moved
from .converting.recurrent import RecurrentModules
from .converting.wrappers import (
    MASKING,
    base_model,
    check_wrapping,
    conversion_of,
    given_padding,
    hand_padding_on,
    text_config,
    text_model,
    transformers_model,
)

logger = logging.getLogger(__name__)


class _Conversion:
    """The state that the converted modules of one model share: the method, and the running forward's tokens.

    sequence: the ranks that read one sequence together, None for this one alone. running: the forward of this thread.
    """

    def __init__(self, family: Family, base: nn.Module, config: Method, sequence: SequenceGroup | None = None) -> None:
        """Nothing of the model is changed yet. Raises ValueError or TypeError where it cannot be converted."""
        self.family, self.config, self.sequence = family, config, sequence
        self.modules = family.attention_modules(base)
        self.plans = plan_layers(family, base, config)
        self.layer_configs = [own for _, own in self.plans if own is not None]
        self.layer_positions = layer_positions(family, base, config.farthest)
        self.positions = set(self.layer_positions)
        check_moved(base.config, family, config, self.layer_positions)
        for module in self.modules:
            check_parts(module, family)
        self.signature, self.cache_name = forward_names(base), cache_name(base)
        self.known = frozenset(self.signature) | UNUSED_BY_ATTENTION
        self.running = Running()

    def layers(self, base: nn.Module) -> list[AttentionLayer]:
        """The layer of each attention module. Raises ValueError where the method is not defined for it."""
        places = zip(self.family.places(base), self.modules, self.layer_configs, self.layer_positions)
        return [self.family.layer(module, own, positions, place) for place, module, own, positions in places]

    def install(self, model: PreTrainedModel, base: nn.Module, layers: list[AttentionLayer]) -> None:
        """Change the model, of which `base` is the text model, by itself and through `generate`."""
        self.recurrent = RecurrentModules(self.family.states(base), self.family.restarts)
        self.unused = unused_modules(base)
        for module in self.unused:
            setattr(module, forward_name(module), make_nothing)
        self.replaced = Replaced(base, self.family.instead)
        self.norms = list(rms_norms(base)) if self.config.compiled else []
        for module in self.norms:
            replace_forward(module, fused_norm)
        self.hooks = (
            base.register_forward_pre_hook(self.before_forward, with_kwargs=True),
            base.register_forward_hook(self.after_forward, with_kwargs=True),
        )
        for module, layer in zip(self.modules, layers):
            module.lambda_layer, module.lambda_conversion = layer, self
            replace_forward(module, attention_forward)
        base.lambda_conversion = self
        self.hooks += (model.register_forward_pre_hook(refuse_two_caches, with_kwargs=True),)
        if model.config.model_type in MASKING:
            self.hooks += (base_model(model).register_forward_pre_hook(hand_padding_on, with_kwargs=True),)
        self.generation = Generation(model)
        if self.sequence is not None and hasattr(model, PREPARE):
            guard_generation(model)

    def remove(self, model: PreTrainedModel) -> None:
        for hook in self.hooks:
            hook.remove()
        for module in (*self.unused, *self.norms, *self.modules):
            restore_forward(module)
        self.replaced.restore()
        self.recurrent.remove()
        for module in self.modules:
            del module.lambda_layer, module.lambda_conversion
        self.generation.give_back(model)

    @untraced
    def before_forward(self, base: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Rewrite the base model's arguments: a cache of ours, and a placeholder where the mask was."""
        inputs = dict(zip(self.signature, args)) | kwargs
        try:
            tokens, mask, cache = self._checked(base, inputs)
        except Exception:
            if self.sequence is not None:
                self.sequence.fail(next(base.parameters()).device)  # the others wait for what this rank has to say
            raise
        running, coming = self.running, tokens.shape[1]
        running.real, running.stretch = RealTokens.from_mask(mask), None
        self.recurrent.check_padding(running.real, tokens, cache)
        begin_tables(self.positions, self.config, tokens, cache)
        if self.sequence is not None:
            running.stretch = self.sequence.agree(real_tokens(mask, coming), len(tokens), cache, tokens.device)
            coming = running.stretch.all.new_tokens
        if cache is not None:
            for layer in cache.layers:
                layer.expect(coming)
        inputs[self.cache_name] = cache
        # Transformers hands a 4-dimensional mask to the layers as it is; without it, it would build n x n.
        placeholder = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=tokens.device)
        inputs[ATTENTION_MASK] = self.recurrent.masks(placeholder, mask, running.real)
        return (), inputs

    def _checked(self, base: nn.Module, inputs: dict) -> tuple[Tensor, Tensor | None, Cache | None]:
        """The new tokens, their padding mask, and a cache of ours in place of the one that is taken out of `inputs`.

        Raises ValueError or TypeError for what Λ-attention cannot honour.
        """
        cache = find_cache(inputs)
        if base.training and getattr(base, "gradient_checkpointing", False):
            raise ValueError("Λ-attention is for inference: call model.eval(), or turn gradient checkpointing off")
        for name in CACHE_NAMES:
            inputs.pop(name, None)
        refuse_unknown(inputs, self.known, type(base).__name__)
        tokens = inputs.get("input_ids")
        tokens = inputs["inputs_embeds"] if tokens is None else tokens
        if inputs.get("output_attentions") or base.config.output_attentions:
            raise ValueError("Λ-attention never holds attention weights: output_attentions is not available")
        mask = new_columns(given_padding(inputs.get(ATTENTION_MASK)), tokens.shape[1])
        check_positions(inputs.get("position_ids"), mask)
        cache = self._cache(base.config, cache, inputs.get("use_cache"))
        if cache is not None:
            check_layers_agree(cache)
            if self.sequence is None:
                refuse_other_rank(cache)
        return tokens, mask, cache

    @untraced
    def after_forward(self, base: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
        """Raise RuntimeError where a layer did not read into the cache: its numbers would lack what was read before."""
        cache = kwargs[self.cache_name]
        if cache is not None and not all(layer.arrived for layer in cache.layers):
            behind = [place for place, layer in enumerate(cache.layers) if not layer.arrived]
            raise RuntimeError(
                f"the cache of {len(behind)} of {len(cache.layers)} layers (the first is {behind[0]}) did not advance "
                f"in this forward: {handed_over_otherwise(base)}"
            )

    def _cache(self, model_config: PretrainedConfig, given: Cache | None, use_cache: bool | None) -> Cache | None:
        if given is not None:
            return as_lambda_cache(given, self.config, self.plans)
        use_cache = model_config.use_cache if use_cache is None else use_cache
        return LambdaCache.of_layers(self.config, planned_layers(self.plans)) if use_cache else None


def drop_in(
    model: PreTrainedModel,
    families: dict[str, Family],
    local_branch: int,
    global_branch: int,
    limit_distance: int | str | None,
    sequence_group: Ranks | None = None,
    **options,
) -> PreTrainedModel:
    """Do the work of the `convert_*_model` functions. limit_distance: tokens, None for no limit, or SAME_AS_LOCAL.

    families: those that the function takes, by `model_type`; ValueError for a model of another. sequence_group: as in
    `convert_family`. options: further fields of LambdaConfig.
    """
    model_type = text_config(transformers_model(model).config).model_type
    if model_type not in families:
        raise ValueError(f"this function converts {', '.join(families)}, not {model_type}")
    limit = local_branch if limit_distance == SAME_AS_LOCAL else limit_distance
    config = LambdaConfig(local_branch, global_branch, limit, **options)
    return convert_family(model, families[model_type], config, sequence_group)


def convert_family(
    model: PreTrainedModel, family: Family, config: Method, sequence_group: Ranks | None = None
) -> PreTrainedModel:
    """Give `model` Λ-attention, or another method, in place and return it. Converting again replaces the configuration.

    sequence_group: a `torch.distributed` group (or a DeviceMesh of one dimension) whose ranks read one sequence
    together: each calls the model with its own stretch of it. None: this process reads alone.
    """
    check_version()
    whole, base, sequence = transformers_model(model), text_model(model), None
    if sequence_group is not None:
        check_config(config)
        check_shared(family, base, config)
        sequence = SequenceGroup(sequence_group)
    check_wrapping(model)
    conversion = _Conversion(family, base, config, sequence)
    layers = conversion.layers(base)  # all that can be refused is: a model that is refused stays as it was
    revert_model(model)
    conversion.install(whole, base, layers)
    whole.config.lambda_attention = config.to_dict()
    logger.info("%s: %s", type(whole).__name__, describe_layers(config, conversion.plans))
    return model


def revert_model(model: PreTrainedModel) -> PreTrainedModel:
    """Undo a conversion in place and return the model; one that is not converted stays as it is."""
    conversion = text_model(model).__dict__.pop("lambda_conversion", None)
    if conversion is not None:
        whole = transformers_model(model)
        conversion.remove(whole)
        del whole.config.lambda_attention
    return model


def is_converted(model: PreTrainedModel) -> bool:
    return conversion_of(model) is not None
