"""Streaming perplexity: reading endless streams of documents through a bounded cache."""

from argparse import Namespace

from data.arguments import load_corpus
from data.corpus import Corpus
from data.tokenization import encode_separator, stream_encoder, unknown_token
from models.loading.vanilla import constant_rope_length, position_table_length
from models.scoring.stream_scorer import StreamScorer
from scripts.harness.model import RunnableModel, is_sharded, load_model
from scripts.streaming import SCRIPT
from scripts.streaming.report import summarise
from scripts.streaming.run import StreamRun
from scripts.streaming.streams import Texts, share_out
from utils.errors import SharedError, UserError
from utils.ranks.runtime import Runtime, describe_device
from utils.trials.trial import STREAM_ARRAYS, Trial
from utils.utils import describe_run


def experiment(trial: Trial | None, arguments: Namespace, runtime: Runtime) -> dict | None:
    """Read the streams and write their sums; the first rank gets the results."""
    run = read_streams(trial, arguments, runtime)
    arrays, streams = run.merged()
    results = None
    with runtime.together():
        if runtime.is_main:
            trial.replace_arrays(arrays, STREAM_ARRAYS)
            results = summarise(run, arrays, streams, describe_device(runtime.device))
    return results


def read_streams(trial: Trial | None, arguments: Namespace, runtime: Runtime) -> StreamRun:
    """Read the streams from where the trial's last checkpoint left them to their end."""
    with runtime.together():
        sharded = is_sharded(arguments, runtime)
    share_out(arguments.streams, runtime, sharded)
    with runtime.together():
        corpus = load_corpus(arguments, seed=None)
    model = load_model(arguments, runtime)
    scorer = StreamScorer(model.model)
    if model.lambda_attention is None:
        check_vanilla(model, arguments)
    with runtime.together():
        texts = make_texts(corpus, model, arguments)
    config = describe_run(SCRIPT, arguments, runtime, model.identity, model.lambda_attention, corpus.name, len(corpus))
    with runtime.together():
        if runtime.is_main:
            trial.begin(config)
    announce(corpus, arguments, config, runtime)
    placed = model.place(scorer)
    if model.lambda_attention is None or arguments.triangle_offset:
        warn_of_full_cache(scorer, arguments, runtime)
    run = StreamRun(arguments, runtime, trial, texts, placed, sharded)
    run.resume()
    run.go_on()
    return run


def make_texts(corpus: Corpus, model: RunnableModel, arguments: Namespace) -> Texts:
    """The corpus as the streams read it: the beginning-of-sequence token once, the separator between documents."""
    tokenizer, vocab_size = model.tokenizer, model.identity["vocab_size"]
    first = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    separator = encode_separator(tokenizer, arguments.document_separator)
    for ids, where in ((first, "the beginning of a stream"), (separator, "--document_separator")):
        refusal = unknown_token(tokenizer, ids, vocab_size, where)
        if refusal:
            raise UserError(refusal)
    encode = stream_encoder(tokenizer, vocab_size)
    return Texts(corpus, encode, arguments.seed, first, separator)


def announce(corpus: Corpus, arguments: Namespace, config: dict, runtime: Runtime) -> None:
    """Say what will be read, and in which chunks."""
    length, chunk = arguments.streaming_length, arguments.max_length
    streams = f"{arguments.streams} streams" if arguments.streams > 1 else "one stream"
    if length <= chunk:
        chunks = "in one chunk"
    else:
        rest = f", the last of {length % chunk:,}" if length % chunk else ""
        chunks = f"in {-(-length // chunk):,} chunks of {chunk:,}{rest}"
    runtime.console.say(
        f"{config['model']['name']} on {config['device']}: {streams} of {length:,} tokens {chunks}, "
        f"{len(corpus)} documents of {corpus.name} in orders drawn from seed {arguments.seed}"
    )


def check_vanilla(model: RunnableModel, arguments: Namespace) -> None:
    """Refuse a stream beyond what an unconverted model can be read to, or read to chunk by chunk."""
    length = arguments.streaming_length
    table, constant = position_table_length(model.model), constant_rope_length(model.model.config)
    if table is not None and length > table:
        raise SharedError(
            f"--streaming_length {length} is beyond this model's table of {table} positions: give at most that, or a "
            "model with rotary or ALiBi positions"
        )
    if constant is not None and length > constant:
        raise SharedError(
            f"--streaming_length {length} is beyond the {constant} tokens after which this model's RoPE scaling "
            "changes its frequencies, but not those of the keys in the cache: give at most that, or "
            "--use_lambda_attention"
        )


def warn_of_full_cache(scorer: StreamScorer, arguments: Namespace, runtime: Runtime) -> None:
    """Say what memory a model will take that keeps the keys and values of every token."""
    total = scorer.bytes_per_token(runtime.device) * arguments.streaming_length
    reason = "with --triangle_offset" if arguments.use_lambda_attention else "without --use_lambda_attention"
    runtime.console.say(
        f"warning: {reason} the cache keeps every token: at least {total / 2**30:.2f} GiB per stream at the end of "
        f"{arguments.streaming_length:,} tokens, in memory and in each checkpoint, and time per token grows with the "
        "stream"
    )
