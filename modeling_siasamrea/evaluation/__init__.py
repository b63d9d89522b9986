"""Scores of answers, baselines and consistency."""
