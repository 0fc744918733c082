"""Writing the pass-key task as a file, as the published code has it: a command and a shell script around it.

The task itself is `data/tasks/passkey_retrieval.py`; another task to write as a file is a command like this one.
"""
