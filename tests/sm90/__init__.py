"""Kernels compiled for an H100 where there is no GPU: `make test-sm90`, in an environment of its own.

`fake_h100.py` has a CPU build of torch believe in the device, far enough that inductor writes the Triton kernels it
would run there; `lowering.py` has Triton's own compiler make machine code of them: what is found is a kernel that does
not compile, spills, does not fit or misses the tensor cores. `interpreter.py` has Triton's interpreter run them on the
CPU: what is found is a wrong number. Neither tells a time.
"""
