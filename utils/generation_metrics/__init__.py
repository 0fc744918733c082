"""BLEU and ROUGE of generated texts, with the numbers that the `evaluate` library's metrics of these names give."""
