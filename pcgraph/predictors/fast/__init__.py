"""The functions of `build`, computed in a shorter way: the same numbers up to rounding."""
