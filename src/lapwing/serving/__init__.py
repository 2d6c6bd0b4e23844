"""What a server is made of. It exports nothing."""
