"""The pocket corpus and the making of the pocket model."""
