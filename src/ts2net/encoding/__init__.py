"""Encoding of texts and videos to embeddings."""
