"""How do files become passages and citations? Ingestion, attachments, search results, grounding."""
