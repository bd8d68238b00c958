"""The pocket corpus: speech synthesisers and procedural sounds, labelled for every pocket task, seeded."""
