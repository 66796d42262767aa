"""What the peers' scripts have in common: work once for every line of standard input, and say how long it took."""

import json
import resource
import sys
import time

import torch


def serve(explain) -> None:
    """Answers every line with seconds, peak memory in MiB, and what `explain` returns: the sum of the scores, and delta."""
    for _ in sys.stdin:
        start = time.perf_counter()
        scores, delta = explain()
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        total = torch.as_tensor(scores).double().sum().item()
        print(json.dumps([seconds, peak, total, float(delta)]), flush=True)
