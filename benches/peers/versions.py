"""The versions of what the peers are made of, and of what they run on, as a line of JSON."""

import json
import platform
from importlib.metadata import version

NAMES = ["torch", "captum", "transformers", "context-cite", "ipykernel"]
print(json.dumps({"Python": platform.python_version()} | {name: version(name) for name in NAMES}))
