"""Prepares videos before training: sample data, checks, small copies."""
