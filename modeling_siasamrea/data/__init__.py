"""Rows of questions, the data set, and its batches."""
