"""One message to many readers. It exports nothing."""
