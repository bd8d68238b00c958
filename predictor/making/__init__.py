"""The making of the encoder that comes with amask."""
