"""Converts models: from ClipBERT, to `torch.export`, for CPUs."""
