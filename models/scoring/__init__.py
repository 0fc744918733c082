"""The NLL of every token, in memory that does not grow with the vocabulary times the text.

`nll_scorer.py` takes whole texts, `stream_scorer.py` long texts and streams chunk by chunk. Both are modules around a
model, so that DeepSpeed can wrap them; another way to read is another module here.
"""
