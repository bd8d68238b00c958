"""How the pocket model is made: encoder by CTC and labels first, then the language model on instructions."""
