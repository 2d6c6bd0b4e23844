"""A client's way to its server, and when to go there again. It exports nothing."""
