"""Turns files into passages and citations: ingestion, attachments, citations, grounding and pictures."""
