"""Why a model fails at length: attention logits, entropy, mass and hidden states, measured layer by layer.

`diagnosed_model.py` runs the model, `measure.py` takes the statistics of one layer as `plan.py` asks. A measurement
more is a field of `diagnosed_model.Measurement`, taken there or in `measure.py`.
"""
