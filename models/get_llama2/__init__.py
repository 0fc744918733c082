"""Llama 2 as Meta ships it: downloading it, and writing it as a Hugging Face folder.

Two commands, `download_llama2.sh` and `convert_llama_weights_to_hf.py`, and the parts of the second one: Meta's
parameters, shards and tokenizer, each in a file `meta_*.py`. They use nothing of the harness.
"""
