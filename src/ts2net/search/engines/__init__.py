"""Engines that turn video files into embedded videos: in this process and its workers, or on a Ray cluster."""
