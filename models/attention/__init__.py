"""The method: its configuration, how positions are encoded, and the two ways to attend.

`prefill/` attends many new tokens at once, `decode/` one new token to a cache; `lambda_attention` chooses between them.
A setting more is a field of `config.LambdaConfig`, whose choices and defaults stand in `settings`, and has to be
honoured, or refused, by both.
"""
