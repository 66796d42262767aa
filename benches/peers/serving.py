"""What the peers' scripts have in common: what they are asked, and to work once for every line of standard input.

    python SCRIPT.py --folder FOLDER --task TASK --setting SETTING --model JSON --work JSON --threads N --device D --dtype T

With TASK make the model's folder is made. With any other every line that comes in starts one run, and its answer is a line of
JSON: seconds, peak memory in MiB, sum of the scores, and delta; null is what nobody tells.
"""

import argparse
import json
import math
import resource
import sys
import time
from types import SimpleNamespace

import torch
from transformers.utils import logging

MIB = 1024**2 if sys.platform == "darwin" else 1024  # macOS counts memory in bytes, Linux in KiB
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def asked() -> argparse.Namespace:
    """The arguments; `model` is what the model is made of, and `work` how much it is asked."""
    parser = argparse.ArgumentParser()
    for name in ("folder", "task", "setting", "lab"):
        parser.add_argument(f"--{name}", default="")
    for name in ("model", "work"):
        parser.add_argument(f"--{name}", type=lambda text: json.loads(text, object_hook=lambda d: SimpleNamespace(**d)))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", type=torch.device, default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    options = parser.parse_args()
    options.dtype = DTYPES[options.dtype]
    torch.set_num_threads(options.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return options


def synchronise(device: torch.device) -> None:
    """Waits until the device has done all it was told to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def serve(explain, device: torch.device) -> None:
    """Answers every line with a run of `explain`, which returns the scores and delta."""
    for _ in sys.stdin:
        synchronise(device)
        start = time.perf_counter()
        scores, delta = explain()
        synchronise(device)
        answer(time.perf_counter() - start, torch.as_tensor(scores).double().sum().item(), float(delta))


def answer(seconds: float, total: float, delta: float, peak: float | None = None) -> None:
    """The line that says how a run went."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB
    numbers = [seconds, own if peak is None else peak, total, delta]
    print(json.dumps([None if math.isnan(number) else number for number in numbers]), flush=True)
