"""The frozen model: adapters, head gating, generation, and the pocket model."""
