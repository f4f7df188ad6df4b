"""Work side by side: a pool of processes, processes with limits, reading ahead, processes of a distributed run."""
