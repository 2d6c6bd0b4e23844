"""The parts of a server. It exports nothing."""
