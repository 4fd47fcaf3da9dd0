#!/bin/sh
# The software bill of materials of a gateway: what `pip install .` brings, as CycloneDX JSON (cyclonedx-py, of the dev extra).
#   scripts/sbom.sh [sbom.json]          PYTHON=python3.12 scripts/sbom.sh    to choose the interpreter
set -eu
out=$(realpath -m "${1:-sbom.json}")
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/gateway"
"$folder/gateway/bin/pip" install --quiet --disable-pip-version-check .
cyclonedx-py environment "$folder/gateway/bin/python" --pyproject pyproject.toml --output-reproducible --of JSON -o "$out"
echo "sbom=$out"
