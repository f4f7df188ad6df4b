"""Engines that turn video files into embedded videos: on this machine, or on a Ray cluster.

An engine is a function from files to outcomes and knows nothing of the index. Engines share what `assembling` holds
and import nothing of each other.
"""
