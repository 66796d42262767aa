"""Executes chapters in the pellucid kernel, headlessly, and writes them as notebooks and as pages that need no network.

The kernel calls a cell «ok» although it panicked or its `?` failed: both show only on stderr. So here a cell fails when
anything but cargo's progress is on stderr, unless it is tagged `stderr-ok`. It fails too when it shows a value's fields
instead of the value, as the kernel does without a word where a cell's last line moves a variable. A cell tagged
`raises-exception` must fail, and with the text in its `expect`, if it has one. An exercise must be unsolved as it ships,
and solved by its solution.
"""

import argparse
import html
import re
import subprocess
import sys
import time
from pathlib import Path
from queue import Empty

import nbformat
from jupyter_client.utils import ensure_async
from latex2mathml.converter import convert as mathml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionComplete, DeadKernelError
from nbconvert import HTMLExporter

from chapter import SPECS, has_verdict, is_solved, read_chapter, solve

CARGO = re.compile(r"\s*(Compiling|Downloading|Downloaded|Updating|Locking|Adding|Blocking|Finished|Fresh|Checking)\b")
THREAD = re.compile(r"(?<=') \(\d+\)(?= panicked at)")
FIELDS = re.compile(r"[A-Z]\w* \{ ")
ANSI = re.compile(r"\x1b\[[0-9;]*m")
PROGRESS = re.compile(r"^.+: \d+ of \d+, about \d+ s left\n", re.M)


# ---- execution ----------------------------------------------------------------------------------------------------

class Kernel(NotebookClient):
    """stderr has a thread of its own in this kernel: a line may come after the cell's end, or even during the next
    cell. It is waited for a moment, and goes to the cell it belongs to."""

    def __init__(self, notebook, folder):
        super().__init__(notebook, kernel_name="pellucid", resources={"metadata": {"path": str(folder)}}, timeout=None,
                         startup_timeout=900, allow_errors=True, coalesce_streams=True, record_timing=False)
        self.homes = {}

    async def _async_poll_output_msg(self, parent_msg_id, cell, cell_index):
        self.homes[parent_msg_id] = (cell, cell_index)
        complete = False
        while message := await self.next_message(0.15 if complete else None):
            try:
                self.deliver(message)
            except CellExecutionComplete:
                complete = True

    async def next_message(self, patience):
        try:
            return await ensure_async(self.kc.iopub_channel.get_msg(timeout=patience))
        except Empty:
            return None

    def deliver(self, message):
        home = self.homes.get(message["parent_header"].get("msg_id"))
        if home:
            show_progress(message["content"])
            self.process_message(message, *home)


def execute(notebook, folder):
    """Runs the cells in order and returns whether all were well; the first failure ends it."""
    if not any(cell.cell_type == "code" for cell in notebook.cells):
        return True
    kernel = Kernel(notebook, folder)
    done = []
    with kernel.setup_kernel(stdout=subprocess.DEVNULL):
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                done.append(cell)
                seconds = execute_cell(kernel, cell, index, len(done))
                failures = [(number, verdict(cell)) for number, cell in enumerate(done, 1) if verdict(cell)]
                report(cell, len(done), seconds, failures)
                if failures:
                    return False
    return True


def execute_cell(kernel, cell, index, number):
    start = time.monotonic()
    try:
        kernel.execute_cell(cell, index, execution_count=number)
    except DeadKernelError:
        cell.outputs.append(nbformat.v4.new_output("stream", name="stderr", text="the kernel died"))
    return time.monotonic() - start


def verdict(cell):
    """Why the chapter must stop at this cell, or nothing."""
    failure, tags = failed(cell), cell.metadata.get("tags", [])
    if "raises-exception" not in tags:
        return failure
    expected = cell.metadata.get("expect", "")
    if not failure:
        return "this cell should have failed, and did not"
    return "" if expected in failure else f"this cell should have failed with «{expected}», but it says:\n{failure}"


def failed(cell):
    """What went wrong in a cell, whatever the kernel thinks of it."""
    outputs = cell.get("outputs", [])
    errors = [ANSI.sub("", "\n".join(output.traceback)) for output in outputs if output.output_type == "error"]
    lines = [line for output in outputs if is_stderr(output) for line in foreign(output.text)]
    tolerated = "stderr-ok" in cell.metadata.get("tags", []) and not any("panicked at" in line for line in lines)
    lost = ["the fields of a value are shown and not the value: does the last line move a variable?"]
    lost = lost if any(map(is_fields, outputs)) else []
    return "\n".join(errors + ([] if tolerated else lines) + lost + (misjudged(cell) if has_verdict(cell) else []))


def misjudged(cell):
    """What is wrong with a verdict: as it ships an exercise is unsolved, and its solution solves it."""
    wanted = "✓ Solved" if is_solved(cell) else "○ Not solved yet"
    shown = [output["data"].get("text/plain", "") for output in cell.outputs if "data" in output]
    return [] if any(text.startswith(wanted) for text in shown) else [f"the verdict should be «{wanted}»: {shown}"]


def is_stderr(output):
    return output.output_type == "stream" and output.name == "stderr"


def is_fields(output):
    data = output.get("data", {})
    return list(data) == ["text/plain"] and FIELDS.match(data["text/plain"]) is not None


def foreign(text):
    """The lines that are not cargo's progress."""
    return [line for line in ANSI.sub("", text).splitlines() if line.strip() and not CARGO.match(line)]


# ---- what the terminal shows --------------------------------------------------------------------------------------

WIPE = "\r\x1b[K" if sys.stdout.isatty() else ""


def show_progress(content):
    """cargo's lines: overwritten by the next one on a terminal, plain lines elsewhere."""
    for line in filter(CARGO.match, ANSI.sub("", content.get("text") or "").splitlines()):
        print(f"{WIPE}      {line.strip()}", end="" if WIPE else "\n", flush=True)


def report(cell, number, seconds, failures):
    """One line per cell. A failure is nearly always this cell's; with a late line of stderr it may be an earlier one's."""
    first = (cell.source.strip().splitlines() or [""])[0]
    print(f"{WIPE}{'FAIL' if failures else 'ok  '} {number:3d} {seconds:7.2f} s  {first[:80]}", flush=True)
    for failing, trouble in failures[:1]:
        print(f"\n{cell.source}\n\n" if failing == number else f"\nin cell {failing}:\n", trouble, sep="", flush=True)


# ---- tidy notebooks -----------------------------------------------------------------------------------------------

def tidy(notebook, root):
    """What would differ from run to run or from machine to machine leaves the notebook."""
    for number, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        cell.execution_count = number
        for output in cell.outputs:
            tidy_output(output, number, f"{root}/")
        cell.outputs = [output for output in cell.outputs if output.output_type != "stream" or output.text]
    notebook.metadata = nbformat.from_dict(SPECS)  # the kernel has added its version


def tidy_output(output, number, root):
    if "execution_count" in output:
        output.execution_count = number
    if is_stderr(output):
        output.text = "".join(line for line in output.text.splitlines(True) if not CARGO.match(ANSI.sub("", line)))
    if output.output_type == "stream":
        output.text = PROGRESS.sub("", THREAD.sub("", output.text.replace(root, "")))
    if output.output_type == "error":
        output.evalue = output.evalue.replace(root, "")
        output.traceback = [line.replace(root, "") for line in output.traceback]


# ---- pages --------------------------------------------------------------------------------------------------------

PAGE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js_requirejs %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block jupyter_widgets %}{% endblock %}
{% block extra_css %}<style>
math { font-family: "Cambria Math", "STIX Two Math", "Latin Modern Math", "DejaVu Math TeX Gyre", math; }
body.jp-Notebook { max-width: 60rem; margin: 0 auto; padding: 1rem; }
math[display="block"] { margin: 0.8em 0; }
.jp-RenderedMarkdown { overflow-x: auto; overflow-wrap: break-word; }
.jp-RenderedMarkdown pre { margin-bottom: 1em; }
</style>{% endblock %}
"""
CODE_OR_MATH = re.compile(
    r"(?P<code>^```.*?^```|(?P<ticks>`+).+?(?P=ticks))"
    r"|(?<!\\)\$\$(?P<block>.+?)\$\$"
    r"|(?<![\\$\w])\$(?!\s)(?P<inline>(?:[^$\n]|\n(?!\s*\n))+?)(?<![\s\\])\$(?!\d)", re.S | re.M)


def page(notebook, name):
    """The notebook as one HTML file without a script or a link to anywhere. Formulas travel through the export as
    names, so that Markdown takes no underscore or asterisk in them for its own."""
    formulas = []
    notebook = nbformat.from_dict({**notebook, "cells": [set_aside(cell, formulas) for cell in notebook.cells]})
    exporter = HTMLExporter(raw_template=PAGE, exclude_input_prompt=True, exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": name}})
    body = re.sub(r'(?:id|href|title)="[^"]*"', lambda match: re.sub(r"formula\d+x", "", match[0]), body)
    return re.sub(r"formula(\d+)x", lambda match: formulas[int(match[1])], body)


def set_aside(cell, formulas):
    """A copy of the cell in which every formula is a name, and the formula, as MathML, is in the list."""
    def name(match):
        if match["code"]:
            return match[0]
        latex, display = (match["block"], "block") if match["block"] else (match["inline"], "inline")
        formulas.append(mathml(html.unescape(latex.strip()), display=display))
        return f"formula{len(formulas) - 1}x"
    cell = nbformat.from_dict(cell)
    if cell.cell_type == "markdown":
        cell.source = CODE_OR_MATH.sub(name, cell.source)
    return cell


# ---- the command --------------------------------------------------------------------------------------------------

def run(path, options):
    """One chapter, from Markdown to files; returns whether it went well."""
    name = f"{path.stem}.solved" if options.solved else path.stem
    targets = [options.out / f"{name}.ipynb", options.out / f"{name}.html"]
    for target in targets:
        target.unlink(missing_ok=True)
    print(name, flush=True)
    notebook = solve(read_chapter(path)) if options.solved else read_chapter(path)
    if not execute(notebook, options.notebooks):
        return False
    tidy(notebook, options.notebooks.parent)
    nbformat.write(notebook, targets[0])
    targets[1].write_text(page(notebook, name), encoding="utf-8")
    if options.build:
        nbformat.write(notebook, options.notebooks / f"{path.stem}.ipynb")
    return True


def main():
    parser = argparse.ArgumentParser(description="execute chapters in the pellucid kernel")
    parser.add_argument("chapters", nargs="+", type=Path)
    parser.add_argument("--notebooks", type=Path, required=True, help="the folder kernels start in")
    parser.add_argument("--out", type=Path, required=True, help="where notebooks and pages go")
    parser.add_argument("--solved", action="store_true", help="with every exercise solved, as OUT/NAME.solved")
    parser.add_argument("--build", action="store_true", help="write the executed notebooks to NOTEBOOKS too")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    sys.exit(0 if all(run(path, options) for path in options.chapters) else 1)


if __name__ == "__main__":
    main()
