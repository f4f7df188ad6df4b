"""Exclude everything imported so far from garbage collection. The fork server imports this module last.

Otherwise a collection in a forked process would copy the memory shared with the server: 90 MB, which takes a third of
a second.
"""

import gc

gc.freeze()
