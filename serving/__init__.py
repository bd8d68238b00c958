"""Answering for users: clips of any length in batches, by mask or by instruction."""
