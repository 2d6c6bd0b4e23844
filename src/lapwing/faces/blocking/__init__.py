"""The blocking face, with the same file names as the asyncio one. It exports nothing."""
