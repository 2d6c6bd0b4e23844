"""Connections: the engine and a socket joined, for code that blocks and for code that awaits. It exports nothing."""
