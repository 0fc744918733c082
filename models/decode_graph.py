"""Decoding with static shapes: a converted model's whole step, embedding to logits, as one CUDA graph.

    cache = LambdaCache(config, num_layers)
    logits = model(prompt, past_key_values=cache).logits[:, -1:]  # cache=cache from Transformers 5.24 on
    graph = DecodeGraph(model, cache)
    for _ in range(tokens):
        logits = graph.step(logits.argmax(-1))

Or, for `generate` with all that it does to logits, `with CapturedSteps(model): model.generate(...)`.

All slots of the ring and all first tokens are columns, a position is a tensor, and what does not count yet is masked:
so every token runs the same operations on the same memory. Elsewhere than on CUDA the same step runs as it is.
"""

from collections.abc import Callable
from functools import wraps
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast

from .assumptions import ATTENTION_MASK, MORE_OUTPUTS, OUTPUT_CACHE, find_cache, with_cache
from .attention.compiled import static_step
from .attention.config import AttentionLayer, LambdaConfig
from .attention.decode.cache import BOUNDED_TENSORS, LambdaCache, LambdaLayer
from .attention.decode.recurrent import ATTENDING
from .attention.decode.step import Heads, decode_step
from .attention.inputs import as_lambda_cache
from .attention.positions import PositionEncoding
from .converting.family import has_chunks
from .converting.wrappers import conversion_of, text_config, transformers_model

Backend = str | Callable

WARM_UPS = 3
"""Steps before a capture, in which libraries allocate what they keep."""


class DecodeGraph:
    """Reads one token per row at a time into `cache`, a LambdaCache that may hold a text already.

    model: converted, all of it on one device. backend: of torch.compile ("inductor", ...), which then makes the step,
    as one graph, before it is captured; None leaves it as it is. An ordinary forward may use the cache in between: each
    goes on where the other stopped.
    Raises ValueError for a model that is not converted, lies on several devices, carries recurrent states, attends to
    the middle, or within chunks of its own, and for a cache of another configuration; a step raises it for a batch of
    another size.
    """

    def __init__(self, model: PreTrainedModel, cache: LambdaCache, backend: Backend | None = None) -> None:
        self.model = model
        self._hold(cache)
        self._forward = self._step
        if backend is not None:
            self._forward = torch.compile(self._step, fullgraph=True, dynamic=False, backend=backend)
        self._kept: list[Tensor] = []
        self.captures = 0

    def _hold(self, cache: LambdaCache) -> None:
        self.layers = _attention_layers(self.model, cache)
        self._first_tokens = max(layer.config.global_branch for layer in self.layers)
        self.cache, whole = cache, transformers_model(self.model)
        self._inputs = {**with_cache(whole, cache), "use_cache": True}

    def take(self, cache: LambdaCache) -> None:
        """Go on with another cache: where it has as many rows, all it holds moves into the memory of the last one.

        So the step that was captured serves it as well, and the last cache is done with. Raises ValueError as above.
        """
        self._hold(cache)
        layers, size = cache.layers, len(BOUNDED_TENSORS)
        if not self._kept or len(layers[0].seen) != self._tokens.shape[0]:
            return
        for place, layer in enumerate(layers):
            layer.move(self._kept[size * place : size * (place + 1)])

    @torch.no_grad()
    def step(self, tokens: Tensor) -> Tensor:
        """Read `tokens`, int64 `[B, 1]`, none of them padding; returns logits `[B, 1, vocabulary]`."""
        seen = self.cache.layers[0].seen
        if not seen or min(seen) < self._first_tokens:  # while there are first tokens to keep
            return self.model(input_ids=tokens, **self._inputs).logits
        if tokens.shape != (len(seen), 1):  # one row would silently be read by all
            raise ValueError(
                f"a step reads one token for each of the cache's {len(seen)} rows, not {list(tokens.shape)}"
            )
        if not self._holds_cache():
            self._prepare(tokens)
        if seen != self._seen:  # an ordinary forward has read on
            self._place(seen)
        self._tokens.copy_(tokens)
        logits = self._run()
        self._position += 1
        for layer in self.cache.layers:
            layer.count(1)
        self._seen = list(self.cache.layers[0].seen)
        return logits

    def _holds_cache(self) -> bool:
        """Whether the cache still has the memory that the step was prepared for: selecting rows gives it another."""
        tensors = [tensor for layer in self.cache.layers for tensor in _memory(layer)]
        return len(tensors) == len(self._kept) and all(map(_same, tensors, self._kept))

    def _prepare(self, tokens: Tensor) -> None:
        self._kept, self._run = [], None  # what was captured before is freed first
        self.captures += 1
        layers = self.cache.layers
        for layer in layers:
            layer.make_room(max(layer.config.local_branch, layer.config.global_branch))
        self._kept = [tensor for layer in layers for tensor in _memory(layer)]
        with torch.inference_mode(False):  # so that steps begun in inference mode may go on outside of it
            self._tokens, self._position = tokens.new_zeros(tokens.shape), tokens.new_zeros(tokens.shape[0])
        self._kinds = self._kinds_of_layers(tokens.device)
        self._place(self.cache.layers[0].seen)
        self._run = captured(self._forward) if _takes_graphs(tokens) else self._forward

    def _kinds_of_layers(self, device: torch.device) -> list["_Kind"]:
        """The kinds of layers that there are, each with the step that its layers share."""
        kinds: dict[tuple, _Kind] = {}
        queries = _query_heads(self.model)
        for place, (layer, held) in enumerate(zip(self.layers, self.cache.layers)):
            heads = Heads(queries[place], held.keys.shape[1], held.keys.shape[-1], layer.scale)
            key = layer.config, layer.positions, heads
            if key not in kinds:
                kinds[key] = _Kind(layer.config, layer.positions.on(device), heads, [])
            kinds[key].places.append(place)
        return list(kinds.values())

    def _place(self, seen: list[int]) -> None:
        self._position.copy_(torch.tensor(seen))
        self._seen = list(seen)

    def _step(self) -> Tensor:
        """The step itself, at `_position`; repeated, it writes the same where the next token belongs."""
        for config, positions, heads, places in self._kinds:
            columns = config.local_branch, config.global_branch
            step = decode_step(config, positions, heads, self._position, *columns)
            for place in places:
                self.cache.layers[place].step = step
        try:
            with static_step():
                logits = self.model(input_ids=self._tokens, **self._inputs).logits
        finally:
            for layer in self.cache.layers:
                layer.step = None
        return logits


class _Kind(NamedTuple):
    """Layers that decode alike, by their places. positions: on the device of the step."""

    config: LambdaConfig
    positions: PositionEncoding
    heads: Heads
    places: list[int]


class CapturedSteps:
    """While it is entered, a converted model reads single tokens by a DecodeGraph, so that `generate` takes it too.

        steps = CapturedSteps(model)
        with steps:
            model.generate(prompt, max_new_tokens=100)

    Texts one after another share the captured step, as long as they come in batches of one size. Everything else, a
    prompt above all, and a model with recurrent states or chunks of its own, is read by the ordinary forward. An error
    within forgets what was captured.
    taken: steps so far; captures: how often a step was prepared for them. Raises ValueError as a DecodeGraph does, when
    the first token is read.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.taken = self._captures = 0
        self._graph: DecodeGraph | None = None
        self._within = False

    @property
    def captures(self) -> int:
        return self._captures + (0 if self._graph is None else self._graph.captures)

    def __enter__(self) -> "CapturedSteps":
        self._bound = self.model.__dict__.get("forward")  # as Accelerate leaves it
        self._forward = self.model.forward

        @wraps(self._forward)  # generate looks at the arguments that it takes
        def forward(*args, **inputs) -> CausalLMOutputWithPast:
            return self._read(*args, **inputs)

        self.model.forward = forward
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._bound is None:
            del self.model.forward
        else:
            self.model.forward = self._bound
        if kind is not None:
            self._captures, self._graph = self.captures, None

    def _read(self, *args, **inputs) -> CausalLMOutputWithPast:
        cache, tokens = find_cache(inputs), inputs.get("input_ids")
        if self._within or args or not _is_one_step(tokens, cache, inputs):
            return self._forward(*args, **inputs)
        if self._graph is None:
            self._graph = DecodeGraph(self.model, cache)
        elif self._graph.cache is not cache:
            self._graph.take(cache)
        self._within = True
        try:
            logits = self._graph.step(tokens)
        finally:
            self._within = False
        self.taken += 1
        return CausalLMOutputWithPast(logits=logits, **{OUTPUT_CACHE: cache})


def _is_one_step(tokens: Tensor | None, cache: Cache | None, inputs: dict) -> bool:
    """Whether a forward of these inputs reads one real token per row into a cache that has all its first tokens."""
    if tokens is None or tokens.shape[1] != 1 or any(inputs.get(name) for name in MORE_OUTPUTS):
        return False
    layers = cache.layers if cache is not None else []
    if not layers or any(type(layer) not in ATTENDING for layer in layers) or not layers[0].seen:
        return False
    if min(layers[0].seen) < max(layer.config.global_branch for layer in layers):
        return False
    mask = inputs.get(ATTENTION_MASK)
    return mask is None or bool(mask[:, -1].all())


def captured(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """`run` as a CUDA graph, which gives a copy of its result; it runs several times before, to warm up."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()

    def replay() -> Tensor:
        graph.replay()
        return result.clone()

    return replay


def _takes_graphs(tokens: Tensor) -> bool:
    """Whether there is something to capture where these are: elsewhere the step runs as it is."""
    return tokens.is_cuda


def _memory(layer: LambdaLayer) -> tuple[Tensor, ...]:
    return tuple(getattr(layer, name) for name in BOUNDED_TENSORS)


def _same(left: Tensor, right: Tensor) -> bool:
    return left is right


def _query_heads(model: PreTrainedModel) -> list[int]:
    """Layer by layer."""
    conversion, config = conversion_of(model), text_config(transformers_model(model).config)
    count = conversion.family.query_heads
    return [config.num_attention_heads if count is None else count(module) for module in conversion.modules]


def _attention_layers(model: PreTrainedModel, cache: LambdaCache) -> list[AttentionLayer]:
    """The layers of a model that can decode statically, for which an empty cache is made ready."""
    conversion = conversion_of(model)
    if conversion is None:
        raise ValueError("a DecodeGraph needs a model with Λ-attention: convert it first")
    config = conversion.config
    if config.attends_all or config.top_k is not None:
        raise ValueError(
            "a DecodeGraph has no room for the middle tokens: it takes no triangle_offset, no top-k, and no "
            "method that attends to all tokens"
        )
    if conversion.recurrent.modules:
        raise ValueError("a DecodeGraph would move recurrent states on when it warms up: read their tokens ordinarily")
    if has_chunks(conversion.plans):
        raise ValueError(
            "a DecodeGraph has no step for layers that attend within chunks of their own: read their tokens "
            "ordinarily, or convert the model with window_layers lambda"
        )
    if not all(isinstance(layer, LambdaLayer) for layer in cache.layers):
        raise ValueError(f"a DecodeGraph of this model needs a LambdaCache made for {config}")
    as_lambda_cache(cache, config, conversion.plans)
    if len({parameter.device for parameter in model.parameters()}) > 1:
        raise ValueError("a DecodeGraph needs all of the model on one device")
    return [module.lambda_layer for module in conversion.modules]
