"""The frozen model: adapters of its families, head gating, scoring and generation."""
