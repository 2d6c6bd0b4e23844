"""The live page of a server, for the option `inspector`. The package exports nothing; see `settings`."""
