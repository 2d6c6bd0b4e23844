"""The live page of a server: what the option `inspector` serves. The package exports nothing; see `settings`."""
