"""What native code of every layer stands on: a queue of bytes, and what takes the place of the GIL where there is none."""
