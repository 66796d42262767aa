#!/usr/bin/env bash
# Makes the peers' Python environment: target/peers, or the folder that PELLUCID_PEERS names. Does nothing if it is there already.
# Without a GPU, PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu brings a torch that is smaller by 4 GB.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=${PELLUCID_PEERS:-$here/../../target/peers}
wanted=$here/requirements.txt
stamp=$home/installed.txt # written last: what an interrupted run leaves is installed anew

if cmp --silent "$wanted" "$stamp"; then
    echo "the peers are in $home already"
    exit
fi
[ -x "$home/bin/python" ] || python3 -m venv "$home"
"$home/bin/python" -m pip install --disable-pip-version-check --requirement "$wanted"
cp "$wanted" "$stamp"
