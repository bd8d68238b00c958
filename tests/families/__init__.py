"""Tiny random models of real families, for tests of what must hold for every one of them."""
