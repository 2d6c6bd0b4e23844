"""What native code of every layer stands on: a queue of bytes, and locks where there is no GIL."""
