"""The subcommands of `siasamrea`, one file each, and what they share."""
