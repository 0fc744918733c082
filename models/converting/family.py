"""A family of models: the places where one architecture keeps what Λ-attention needs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from ..assumptions import VERSION, own_chunk, own_window, supported_range
from ..attention.bands.config import ChunksConfig
from ..attention.config import AttentionLayer, LambdaConfig, LayerMethod, Method, method_of_layer
from ..attention.decode.recurrent import LayerPlan, RecurrentLayer, layer_plan
from ..attention.positions import PositionEncoding, RotaryPositions, rotary_from_config
from ..errors import SharedError

Projections = tuple[Tensor, ...]
"""query `[B, Hq, n, d]`, key `[B, Hkv, n, d]` and value `[B, Hkv, n, d_v]`, without positions, and what `finish` takes
besides."""


@dataclass(frozen=True)
class Family:
    """One architecture: the places where it keeps what Λ-attention needs.

    attention_modules: the attention modules of a base model, in layer order.
    parts: names of the modules inside an attention module, all of which `project` and `output` use.
    optional: names of those that only some configurations have, and that are used where they are there.
    project: (attention module, hidden states `[B, n, hidden]`) -> Projections.
    output: name of the attention module's output projection; None where `finish` projects.
    scale: (attention module) -> the factor on `query . key`.
    positions: (base model, layer, the farthest distance felt) -> the position encoding of that layer.
    finish: (attention module, the attention `[B, n, Hq * d_v]`, ...) -> what goes into `output`; None for itself.
    soft_cap: (attention module) -> c, where scores are felt as `c * tanh(score / c)`, or None.
    sink_logit: (attention module) -> its learned score per query head that weighs nothing, `[Hq]`, or None.
    place: (attention module, query `[B, Hq, n, d]`, int64 `[B or 1, n]`) -> the query as it is at these positions in
        the text, besides what `positions` does to it. A position here is the true one, whatever Λ does to distances.
    query_heads: (attention module) -> how many it has, where that is not the configuration's number.
    given: names of what the attention module is handed in turn behind its hidden states.
    returns: (attention module, its output, what is `given`...) -> what its forward returns; (output, None) by default.
    by_distance: whether a score depends on the distance alone; else methods that move positions are not defined.
    instead: attributes of the base model that are others while it is converted.
    extend_vanilla: lets an unconverted base model run past its position tables, and read on from its own cache; None
        where it does.
    recurrent: the modules of a base model that carry a state from token to token; None for a model without. They stay
        Transformers' own. restarts: whether these forget it when they read several tokens.
    """

    attention_modules: Callable[[nn.Module], list[nn.Module]]
    parts: frozenset[str]
    project: Callable[[nn.Module, Tensor], Projections]
    output: str | None
    scale: Callable[[nn.Module], float]
    positions: Callable[[nn.Module, int, int | None], PositionEncoding]
    extend_vanilla: Callable[[nn.Module], None] | None = None
    optional: frozenset[str] = frozenset()
    finish: Callable[..., Tensor] | None = None
    soft_cap: Callable[[nn.Module], float | None] | None = None
    sink_logit: Callable[[nn.Module], Tensor | None] | None = None
    place: Callable[[nn.Module, Tensor, Tensor], Tensor] | None = None
    query_heads: Callable[[nn.Module], int] | None = None
    given: tuple[str, ...] = ()
    returns: Callable[..., tuple] | None = None
    by_distance: bool = True
    instead: Mapping[str, object] = field(default_factory=dict)
    recurrent: Callable[[nn.Module], list[nn.Module]] | None = None
    restarts: bool = False

    def __deepcopy__(self, memo: dict) -> "Family":
        return self

    def __reduce__(self) -> tuple:
        """Pickled by name: its functions have none. Raises TypeError for a family that is not registered."""
        return registered_family, (name_of(self),)

    def layer(self, module: nn.Module, config: LayerMethod, positions: PositionEncoding, index: int) -> AttentionLayer:
        """An attention module in the terms of Λ-attention."""
        cap = None if self.soft_cap is None else self.soft_cap(module)
        sink_logit = None if self.sink_logit is None else self.sink_logit(module)
        return AttentionLayer(config, positions, self.scale(module), index, cap, sink_logit)

    def places(self, base: nn.Module) -> list[int]:
        """The layer of the model, and of its cache, that each attention module is in."""
        modules = self.attention_modules(base)
        return list(range(len(modules))) if self.recurrent is None else [module.layer_idx for module in modules]

    def states(self, base: nn.Module) -> list[nn.Module]:
        """The modules that carry a state, in layer order."""
        return [] if self.recurrent is None else self.recurrent(base)


def registered_family(model_type: str) -> Family:
    from ..model_base import FAMILIES  # which imports this file

    return FAMILIES[model_type]


def name_of(family: Family) -> str:
    """The first `model_type` of a family."""
    from ..model_base import FAMILIES

    for model_type, registered in FAMILIES.items():
        if registered is family:
            return model_type
    raise TypeError("a model of a family that is not in model_base.FAMILIES cannot be pickled: revert_model first")


def rotary_positions(base: nn.Module, layer: int, farthest: int | None) -> RotaryPositions:
    """As `Family.positions`, of models whose one rotary module all layers share alike."""
    return rotary_from_config(base.config, base.rotary_emb, farthest)


def layer_positions(family: Family, base: nn.Module, farthest: int | None) -> list[PositionEncoding]:
    """The position encoding of each layer; layers that encode alike share one, and its tables."""
    shared: list[PositionEncoding] = []
    for layer in family.places(base):
        own = family.positions(base, layer, farthest)
        shared.append(next((other for other in shared if own.same_as(other)), own))
    return shared


def check_parts(module: nn.Module, family: Family) -> None:
    """Raise TypeError unless an attention module is made of these parts: another one would be left out silently."""
    held = {name for name, part in module.named_children() if not isinstance(part, nn.Dropout)}
    held |= {name for name, _ in module.named_parameters(recurse=False)}
    if held - family.optional != family.parts:
        known = ", ".join(sorted(family.parts | family.optional))
        raise TypeError(
            f"{type(module).__name__} of Transformers {VERSION} is made of {', '.join(sorted(held))}, "
            f"where Λ-attention knows {known}; supported are {supported_range()}"
        )


def plan_layers(family: Family, base: nn.Module, config: Method) -> list[LayerPlan]:
    """What each layer of a model keeps in its cache. config: the model's."""
    attending, carrying = set(family.places(base)), {module.layer_idx for module in family.states(base)}
    configs = [
        method_of_layer(config, own_window(base.config, layer), own_chunk(base.config, layer))
        if layer in attending
        else None
        for layer in range(len(attending) if family.recurrent is None else base.config.num_hidden_layers)
    ]
    return [layer_plan(own, layer in carrying) for layer, own in enumerate(configs)]


def has_chunks(plans: list[LayerPlan]) -> bool:
    """Whether some layers attend within chunks of their own."""
    return any(isinstance(own, ChunksConfig) for _, own in plans)


def check_shared(family: Family, base: nn.Module, config: Method) -> None:
    """Raise SharedError for a model whose texts cannot be read by several ranks together."""
    if family.recurrent is not None:
        raise SharedError(
            f"the recurrent layers of {base.config.model_type} read a text from its first token to its last, and ranks "
            "cannot share it out: leave --sequence_parallel, or the sequence_group, out"
        )
    if has_chunks(plan_layers(family, base, config)):
        raise SharedError(
            f"layers of {base.config.model_type} attend within chunks of their own, which ranks cannot share out: "
            "leave --sequence_parallel, or the sequence_group, out, or give --window_layers lambda"
        )


def describe_layers(config: Method, plans: list[LayerPlan]) -> str:
    """Which layers attend how, for the log. config: the model's; plans: of each layer."""
    own = [layer for layer, (_, own_config) in enumerate(plans) if own_config not in (None, config)]
    chunked = [layer for layer in own if isinstance(plans[layer][1], ChunksConfig)]
    carrying = [layer for layer, (kind, _) in enumerate(plans) if issubclass(kind, RecurrentLayer)]
    attending = sum(own_config is not None for _, own_config in plans) - len(own)
    named = "Λ-attention" if isinstance(config, LambdaConfig) else config.method
    described = f"{named} in {attending} of {len(plans)} layers"
    if chunked:
        chunks = ", ".join(map(str, sorted({plans[layer][1].chunk for layer in chunked})))
        described += f", chunks of their own ({chunks} tokens) in layers {_spans(chunked)}"
    elif own:
        windows = ", ".join(map(str, sorted({plans[layer][1].local_branch for layer in own})))
        described += f", a window of their own ({windows} tokens) in layers {_spans(own)}"
    if carrying:
        described += f", a recurrent state as without it in layers {_spans(carrying)}"
    return described


def _spans(numbers: list[int]) -> str:
    """Ascending numbers in words: "0-4, 6"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
