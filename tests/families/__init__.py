"""Tiny random stand-ins for real audio-text models, and the tests that every family goes through."""

from . import conformers, gemma, omni, others, voxtral, whisper_like

FAMILIES = whisper_like.FAMILIES | omni.FAMILIES | voxtral.FAMILIES | conformers.FAMILIES | gemma.FAMILIES | others.FAMILIES
