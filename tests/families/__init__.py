"""Tiny random stand-ins for real audio-text models, and the tests that every family goes through."""

from . import whisper_like

FAMILIES = whisper_like.FAMILIES
