"""The processes of one job: which this one is, what it computes on, DeepSpeed, and how work is shared out.

`runtime.py` is what ranks tell each other, `steps.py` the order in which they take documents. Another way to spread a
model is a file like `deepspeed.py`, which `scripts/harness/model.py` chooses.
"""
