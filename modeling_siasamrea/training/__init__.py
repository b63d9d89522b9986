"""Trains SiaSamRea's own network, and what both kinds of models share."""
