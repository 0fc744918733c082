"""Alternatives to Λ-attention, written to be compared: the published code's way, and its mask for torch's kernels.

An alternative more is a function of query, key and value here, named in `methods.py` where it takes a whole sequence,
or among the cases of the benchmark that times it. A whole model of another library is a `TextModel` of
`benchmarks/measuring/text_reading.py`, as `llama_cpp_model.py` is.
"""
