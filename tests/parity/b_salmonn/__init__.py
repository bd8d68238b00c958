"""SALMONN against numbers of the authors' code (golden set B): every stage from a file to a trained mask.

Sizes, cases and names of clips are read from the files, so that other sets of the same kind run through the same tests.
A stage is fed with the recorded stage before it.
"""
