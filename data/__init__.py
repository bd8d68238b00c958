"""What is heard and what is asked: tasks, manifests, audio, and the pocket corpus."""
