"""`ts2net demo`: the whole way once on clips of its own (`run`), or its last step on anybody's (`own_videos`)."""
