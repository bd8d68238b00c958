"""SALMONN, over a tiny random one in the layout of the official files."""
