"""Evaluation: metrics, stored predictions and the controls that masks are measured against."""
