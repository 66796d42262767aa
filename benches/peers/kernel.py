"""A Jupyter kernel, asked as a notebook asks it: pellucid's, of the folder .lab, or ipykernel. How it is asked: serving.py.

Setting pellucid or ipykernel; --lab names pellucid's folder, --folder the model that ipykernel loads. Task first: from the kernel's start
to the end of a chapter's first cells, which bring what it needs into scope and load a model; a new kernel every time. Tasks cell and
tensor: one small cell in a kernel that has done so. The sum is what the last cell shows, and the memory that of the kernel's processes.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpecManager
from serving import answer, asked

CELLS = {
    "pellucid": {
        "first": [
            ':dep prelude = { path = "prelude" }\nuse prelude::*;\nlet kernel = init()?;',
            'let bert = Bert::load("pellucid/tiny-bert-sentiment")?;\nbert.layers()',
        ],
        "cell": "1 + 1",
        "tensor": "let ones = Tensor::ones((64, 64), DType::F32, &Device::Cpu)?;\n"
        "ones.matmul(&ones)?.sum_all()?.to_scalar::<f32>()?",
    },
    "ipykernel": {
        "first": [
            "import torch, transformers\nfrom captum.attr import LayerIntegratedGradients",
            "bert = transformers.BertForSequenceClassification.from_pretrained(FOLDER).eval()\nbert.config.num_hidden_layers",
        ],
        "cell": "1 + 1",
        "tensor": "ones = torch.ones(64, 64)\n(ones @ ones).sum().item()",
    },
}


class Kernel:
    """A kernel that has started, and what speaks to it."""

    def __init__(self, options) -> None:
        lab = Path(options.lab).resolve()
        home, name = {"pellucid": (lab / "python", "pellucid"), "ipykernel": (Path(sys.prefix), "python3")}[options.setting]
        specs = KernelSpecManager(kernel_dirs=[str(home / "share/jupyter/kernels")], ensure_native_kernel=False)
        self.manager = KernelManager(kernel_name=name, kernel_spec_manager=specs)
        notebooks = lab.parent / "notebooks"  # where notebooks of either kind lie
        self.manager.start_kernel(cwd=str(notebooks), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=900)

    def run(self, cell: str) -> str:
        """What a cell shows, once the kernel is idle again."""
        asked, shown, said = self.client.execute(cell), [], []
        while True:
            message = self.client.get_iopub_msg(timeout=900)
            if message["parent_header"].get("msg_id") != asked:
                continue
            kind, content = message["msg_type"], message["content"]
            shown += [content["data"].get("text/plain", "")] if kind in ("execute_result", "display_data") else []
            said += content.get("traceback", []) + ([content["text"]] if kind == "stream" else [])
            if kind == "status" and content["execution_state"] == "idle":
                break
        return shown[-1] if shown else "\n".join(["nothing was shown by", cell, *said])

    def peak(self) -> float:
        """The peak memory of the kernel's processes that are alive, MiB; NaN where the system does not tell."""
        if not Path("/proc/self/status").exists():
            return float("nan")
        kernel = psutil.Process(self.manager.provisioner.pid)
        return sum(map(high_water, [kernel, *kernel.children(recursive=True)]))

    def __enter__(self) -> "Kernel":
        return self

    def __exit__(self, *_) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


def high_water(process: psutil.Process) -> float:
    """The peak memory of a process, as the system counts it, MiB; 0 if it has just ended."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+)", status)
    return int(found[1]) / 1024 if found else 0.0


def number(shown: str) -> float:
    """What a cell shows, which must be a number."""
    return float(shown) if re.fullmatch(r"[\d.]+", shown.strip()) else sys.exit(shown)


def first(options, cells) -> None:
    """A kernel from its start on, every time."""
    for _ in sys.stdin:
        start = time.perf_counter()
        with Kernel(options) as kernel:
            shown = [kernel.run(cell) for cell in cells["first"]][-1]
            answer(time.perf_counter() - start, number(shown), float("nan"), kernel.peak())


def later(options, cells) -> None:
    """One cell in a kernel that is there."""
    with Kernel(options) as kernel:
        for cell in cells["first"]:
            kernel.run(cell)
        for _ in sys.stdin:
            start = time.perf_counter()
            shown = kernel.run(cells[options.task])
            answer(time.perf_counter() - start, number(shown), float("nan"), kernel.peak())


if __name__ == "__main__":
    options = asked()
    cells = CELLS[options.setting]
    cells["first"] = [cell.replace("FOLDER", repr(options.folder)) for cell in cells["first"]]
    (first if options.task == "first" else later)(options, cells)
