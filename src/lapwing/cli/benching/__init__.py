"""The parts of `lapwing bench`; it exports nothing."""
