"""Imported last by the server that processes are forked from: what is imported until then is never garbage.

A process that looked for garbage in what it shares with the server would copy it, 90 MB in a third of a second.
"""

import gc

gc.freeze()
