"""SALMONN from its official files: Whisper and BEATs encoders, window-level Q-Former, LoRA on a Vicuna (Tang et al. 2024)."""
