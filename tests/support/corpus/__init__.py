"""Small video files of every kind, the truth about each from a plain loop, and checks of the package against it.

Only `checks` imports the package: `writing` and `recipes` create files with PyAV and by editing bytes, `truth` reads
them with its own demux and decode loop, and `fuzzing` draws files from a seed.
"""
