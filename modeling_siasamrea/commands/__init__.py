"""What `siasamrea` and the scripts in `examples/` do; of the rest only the converter imports it, for its arguments."""
