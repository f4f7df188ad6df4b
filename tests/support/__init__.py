"""What several tests need: tiny models, videos, a loopback Hub, processes."""
