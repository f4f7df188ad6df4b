"""Engines that turn video files into embedded videos: on this machine, or on a Ray cluster.

An engine turns files into outcomes and does not access the index. Engines share `assembling` and do not import each
other.
"""
