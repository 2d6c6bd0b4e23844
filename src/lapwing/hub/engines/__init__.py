"""The package of the hub's engines; it exports nothing."""
