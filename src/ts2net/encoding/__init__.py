"""Texts and videos to embeddings."""
