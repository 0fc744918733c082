"""Shared by kills.py: what is run, how it is started and killed, and whether what a killed run leaves is the same."""
