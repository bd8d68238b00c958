"""Boolean expressions: reading, printing and naming them, and the masks they stand for, against Python's sets and parser."""
