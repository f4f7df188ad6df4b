"""Small video files of every kind, the truth about each by a plain loop, and the checks of the package against it.

Nothing but `checks` imports the package: `writing` and `recipes` make files with PyAV and by editing bytes, `truth`
reads them with a demux and decode loop of its own, `fuzzing` draws files from a seed.
"""
