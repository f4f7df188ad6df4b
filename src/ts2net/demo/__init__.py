"""`ts2net demo`: all steps on generated clips (`run`), or only the last step on the user's videos (`own_videos`)."""
