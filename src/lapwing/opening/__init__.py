"""The conversation that opens a connection, without I/O, for every face and every bridge. It exports nothing."""
