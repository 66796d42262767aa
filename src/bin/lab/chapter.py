"""A chapter as a notebook: as it is written, with its exercises solved, or without their solutions.

A verdict is a line that begins with `check::`. A cell with one is an exercise if the prose below it holds a fold called
Solution. The first ```rs fence of that fold is what a learner might have written: it takes the place of all that stands
before the verdict.
"""

import hashlib
import re

import jupytext
import nbformat

SPECS = {
    "kernelspec": {"name": "pellucid", "display_name": "Rust (pellucid)", "language": "rust"},
    "language_info": {"name": "rust", "file_extension": ".rs", "mimetype": "text/rust", "pygments_lexer": "rust"},
}
# without it jupytext takes a page's only fences for its cells, whatever their language
HEADER = "---\njupyter:\n  kernelspec:\n    display_name: Rust (pellucid)\n    language: rust\n    name: pellucid\n---\n\n"
SOLUTION = re.compile(r"<details><summary>Solution</summary>\n(.*?)</details>", re.S)
ANSWERS = re.compile(r"<details><summary>(?:Solution|Answer)</summary>\n.*?</details>\n*", re.S)
CODE = re.compile(r"^```rs\n(.*?)\n```", re.S | re.M)
VERDICT = re.compile(r"^check::", re.M)


def read_chapter(path):
    """A chapter's ```rust fences become cells; everything else, other languages too, stays prose."""
    notebook = jupytext.reads(HEADER + list_tags(path.read_text(encoding="utf-8")), fmt="md")
    notebook.metadata = nbformat.from_dict(SPECS)
    notebook.cells = [as_prose(cell) for cell in notebook.cells]
    name_cells(notebook.cells)
    return notebook


def list_tags(text):
    """```rust tags="a b"  →  ```rust tags=["a", "b"], the way jupytext wants it."""
    def listed(match):
        tags = ", ".join(f'"{tag}"' for tag in re.split(r"[\s,]+", match[2].strip()))
        return f"{match[1]}tags=[{tags}]"
    return re.sub(r'^(```rust\b.*?)tags="([^"]*)"', listed, text, flags=re.M)


def as_prose(cell):
    """jupytext makes cells of other languages, for magics that a Rust kernel does not have: back to a fence."""
    other = re.match(r"%%(\w+)\n", cell.source)
    if cell.cell_type != "code" or not other:
        return cell
    return nbformat.v4.new_markdown_cell(f"```{other[1]}\n{cell.source[other.end():]}\n```")


def name_cells(cells):
    """An id from the content, so that a new cell changes no other cell's id."""
    seen = {}
    for cell in cells:
        digest = hashlib.sha256(cell.source.encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"


def has_verdict(cell):
    return cell.cell_type == "code" and VERDICT.search(cell.source) is not None


def is_solved(cell):
    return "solved" in cell.metadata.get("tags", [])


def solve(notebook):
    """Every exercise as its solution has it."""
    for cell, prose in zip(notebook.cells, notebook.cells[1:]):
        fold = has_verdict(cell) and SOLUTION.search(prose.source)
        if fold:
            cell.source = solved(cell.source, fold[1])
            cell.metadata.tags = [*cell.metadata.get("tags", []), "solved"]
    return notebook


def solved(exercise, solution):
    """The solution's code, and the exercise's verdict if it has none of its own."""
    code = CODE.search(solution)
    if not code:
        raise ValueError(f"the Solution of this exercise has no ```rs fence:\n{exercise}")
    own = VERDICT.search(code[1])
    return code[1] if own else f"{code[1]}\n{exercise[VERDICT.search(exercise).start():]}"


def withhold(notebook):
    """Without solutions, and without the answers to questions; hints and the answers to predictions stay."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = ANSWERS.sub("", cell.source).rstrip()
    return notebook
