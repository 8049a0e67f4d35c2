#!/usr/bin/env bash
# The core, installed from a wheel into an environment without torch, does what it promises. Usage: core.sh VENV BUNDLE
set -euo pipefail
venv=$1 bundle=$2
advisor="$venv/bin/advisor"

"$venv/bin/python" -c 'import importlib.util as u, sys; sys.exit("torch is here" if u.find_spec("torch") else 0)'
"$advisor" --version
"$advisor" recommend --task ocr > recommend.txt
grep -q crnn recommend.txt
"$advisor" recommend --task ocr --device raspberry-pi-5 -o plan.toml > /dev/null
test -s plan.toml
"$advisor" matrix > /dev/null
"$advisor" devices > /dev/null
"$advisor" explain crnn > /dev/null
"$advisor" doctor > /dev/null
"$advisor" bundle verify "$bundle"
"$advisor" profile "$bundle" -o profile.json > /dev/null
test -s profile.json
"$advisor" gate "$bundle" --max-size-mb 10
if "$advisor" gate "$bundle" --max-size-mb 0.000001; then echo "a gate that cannot fail" >&2; exit 1; fi
"$venv/bin/python" "$bundle/reader.py" "$bundle/golden/raw/0.png"
# A verb that needs torch says so in one line, exit 5.
code=0
"$advisor" run --task ocr --out run > /dev/null 2> needs.txt || code=$?
test "$code" = 5
grep -q "pip install" needs.txt
test "$(wc -l < needs.txt)" = 1
