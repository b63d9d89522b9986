"""What `siasamrea` and the scripts in `examples/` do; nothing else in the package imports it."""
