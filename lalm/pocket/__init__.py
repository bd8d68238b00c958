"""The pocket model: a small LALM of the Qwen2-Audio architecture, how it is made, and where its weights lie."""
