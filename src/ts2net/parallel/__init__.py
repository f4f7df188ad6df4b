"""Parallel execution: a process pool, processes with limits, a read-ahead thread, and distributed communication."""
