"""What `make` or pip compiles for the CPU, where there is a C++ compiler: what torch has no operator for."""
