"""Several kernels at once, as a class starts them: each answers, none builds into another, and a stopped one comes back.

Prints how long each took to its first answer, and the memory it then holds.
"""

import argparse
import asyncio
import json
import time
from pathlib import Path

import psutil
from jupyter_client import AsyncKernelManager

SET_UP = """:dep prelude = { path = "prelude" }
use prelude::*;
let kernel = init()?;"""
WORK = """let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
fn number() -> usize { NUMBER }
println!("{}", number());"""


class Learner:
    """One kernel, and who sits before it."""

    def __init__(self, number, notebooks):
        self.number, self.notebooks = number, notebooks
        self.manager = AsyncKernelManager(kernel_name="pellucid")

    async def start(self):
        start = time.monotonic()
        await self.manager.start_kernel(cwd=str(self.notebooks))
        self.client = self.manager.client()
        self.client.start_channels()
        await self.client.wait_for_ready(timeout=300)
        await self.run(SET_UP)
        self.first_cell = time.monotonic() - start
        start = time.monotonic()
        await self.prints(WORK.replace("NUMBER", str(self.number)), str(self.number))
        self.cell = time.monotonic() - start

    async def run(self, code):
        """What a cell prints."""
        said = []

        def hear(message):
            content = message["content"]
            if message["msg_type"] == "error":
                lines = "\n".join(content["traceback"]).splitlines()
                raise SystemExit("\n".join(line for line in lines if not line.startswith('{"reason"')))
            if content.get("name") == "stdout":
                said.append(content["text"])

        await self.client.execute_interactive(code, output_hook=hear, timeout=300)
        return "".join(said).strip()

    async def prints(self, code, wanted):
        said = await self.run(code)
        assert said == wanted, f"kernel {self.number}: {code!r} says {said!r} and not {wanted!r}"

    async def interrupt(self):
        """The stop button in an endless cell: what was defined stays, and the kernel goes on."""
        self.client.execute("loop { std::thread::sleep(std::time::Duration::from_millis(50)) }")
        await asyncio.sleep(3)
        await self.manager.interrupt_kernel()
        await self.prints("println!(\"{}\", number());", str(self.number))

    def memory(self):
        """MiB of this kernel and what it has started; shared pages count by their share."""
        processes = [psutil.Process(self.manager.provisioner.pid)]
        processes += processes[0].children(recursive=True)
        infos = [process.memory_full_info() for process in processes]
        return sum(getattr(info, "pss", info.uss) for info in infos) / 2**20

    async def stop(self):
        self.client.stop_channels()
        await self.manager.shutdown_kernel(now=True)


async def meet(count, notebooks):
    learners = [Learner(number, notebooks) for number in range(count)]
    try:
        await asyncio.gather(*(learner.start() for learner in learners))
        for learner in learners:
            seconds = {"first cell, s": round(learner.first_cell, 1), "next cell, s": round(learner.cell, 2)}
            print(json.dumps({"kernel": learner.number, **seconds, "memory, MiB": round(learner.memory())}))
        await learners[0].interrupt()
        for learner in learners:
            await learner.prints("println!(\"{}\", number());", str(learner.number))
    finally:
        await asyncio.gather(*(learner.stop() for learner in learners))


def main():
    parser = argparse.ArgumentParser(description="several kernels at once")
    parser.add_argument("--together", type=int, default=2)
    parser.add_argument("--notebooks", type=Path, default=Path(__file__).parents[2] / "notebooks")
    options = parser.parse_args()
    asyncio.run(meet(options.together, options.notebooks))


if __name__ == "__main__":
    main()
