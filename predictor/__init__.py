"""From an instruction in words to a mask."""
