"""Makes the files beside this one: a small vocabulary in Qwen's format, and what tiktoken itself reads with it.

    python generate.py

Needs tiktoken 0.14 and regex; it runs in a second.

The vocabulary has the 256 bytes, merges learnt from the text below, tokens put together from others at random, and then
words of letters at random: to these no merges lead, so that they are only found where a whole piece of text is one.
"""

import base64
import json
import random
import unicodedata
from collections import Counter
from pathlib import Path

import regex
import tiktoken

HERE = Path(__file__).parent
LEARNT, INVENTED, WORDS = 180, 40, 20
PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = (
    ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    + [f"<|extra_{i}|>" for i in range(205)]
    + ["<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>", "<img>", "</img>", "<imgpad>"]
)
TEXT = """
In the morning the painter mixed her greens again, and again the river outside the window would not be one of them.
She counted the colours: there were nine, then eleven, then none that she could name. The light had moved along the
wall while she was counting. What remained on the canvas was the light that had been there when she began.
"Paint what isn't moving," her teacher used to say; she'd never found anything that wasn't.
Am Abend war der Fluß grün. 夜の川は黒い。 河水是黑的。 Ночью река черна. 🎨🎨
"""
SAID = [
    "the light on the river",
    "What isn't moving? I'LL say: she'd, we've, I'm, THEY'RE",
    "12345 colours, 3.14",
    "  two spaces,   three spaces \t tab  ",
    "one line\n\n\nthree lines later\r\n  indented\n",
    "café",
    "cafe\u0301",
    "\u1100\u1161\u11a8",
    "夜の川は黒い。",
    "🎨 and 👩‍🎨",
    "a\u00a0hard space, a soft\u00adhyphen, a nul\0",
    "<|im_start|>user\nWhat is it?<|im_end|>\n<|im_start|>assistant\n",
    "<ref>the river</ref><box>(1,2),(3,4)</box><quad></quad>",
    "the end<|endoftext|><|extra_0|><|extra_204|>",
    "<img>river.png</img>What is it?<imgpad>",
    "<|extra_205|> <img <|im_start|",
]


def bytes_in_order():
    """The bytes that can be printed, and then the others."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [bytes([byte]) for byte in printed + [byte for byte in range(256) if byte not in printed]]


def merged(parts, pair):
    out = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out


def learn(tokens):
    """The pair that most often stands together becomes a token, again and again."""
    text = unicodedata.normalize("NFC", TEXT)
    pieces = [[bytes([byte]) for byte in piece.encode()] for piece in regex.findall(PIECES, text)]
    for _ in range(LEARNT):
        pairs = Counter(pair for piece in pieces for pair in zip(piece, piece[1:]))
        pair = max(sorted(pairs), key=pairs.get)
        tokens.append(pair[0] + pair[1])
        pieces = [merged(piece, pair) for piece in pieces]


def invent(tokens, dice):
    """Tokens put together at random, and then words."""
    while len(tokens) < 256 + LEARNT + INVENTED:
        token = dice.choice(tokens[256:]) + dice.choice(tokens)
        if token not in tokens and len(token) < 12:
            tokens.append(token)
    return [(dice.choice(["", " "]) + "".join(dice.choices("bcdfgjkpqvwxz", k=5))).encode() for _ in range(WORDS)]


def babble(tokens, dice):
    """Text of tokens and letters at random, for merges that compete."""
    letters = sorted(set(TEXT))
    tokens = [token.decode() for token in tokens[256:] if token.decode(errors="ignore").encode() == token]
    return "".join(dice.choice(dice.choice([letters, tokens])) for _ in range(40))


def main():
    dice = random.Random(1)
    tokens = bytes_in_order()
    learn(tokens)
    words = invent(tokens, dice)
    tokens += words
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(tokens)]
    (HERE / "qwen.tiktoken").write_text("".join(lines))
    encoding = tiktoken.Encoding(
        "qwen",
        pat_str=PIECES,
        mergeable_ranks={token: rank for rank, token in enumerate(tokens)},
        special_tokens={mark: len(tokens) + i for i, mark in enumerate(SPECIAL)},
    )
    words = [word.decode() for word in words]
    said = SAID + ["\n".join(words), "".join(words)] + [babble(tokens, dice) for _ in range(40)]
    ids = [encoding.encode(unicodedata.normalize("NFC", text), allowed_special="all") for text in said]
    expected = [{"text": text, "ids": these} for text, these in zip(said, ids)]
    rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in expected)
    (HERE / "expected.json").write_text(f"[\n{rows}\n]\n")


main()
