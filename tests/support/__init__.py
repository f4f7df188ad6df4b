"""Helpers that several tests share: tiny models, videos, a loopback Hub, processes."""
