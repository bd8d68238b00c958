"""Composition: Boolean expressions over masks, and composite tasks that are trained from them."""
