"""What every test can count on."""

import signal

# A shell starts what runs in its background with Ctrl-C ignored, and child processes inherit that. The tests that
# interrupt a child need one that can be interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
