"""The pocket corpus: speech synthesisers, procedural sounds and free recordings, labelled for every pocket task, seeded."""
