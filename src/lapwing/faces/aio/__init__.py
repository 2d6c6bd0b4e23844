"""The asyncio face, with the same file names as the blocking one. It exports nothing."""
