#!/bin/sh
# The software bill of materials of the gateway image: every part of deploy/gateway.lock with version, hashes and package URL, and
# setwise itself, as CycloneDX JSON (cyclonedx-py, of the dev extra). Needs no network. The base image has a bill of its own.
#   scripts/sbom.sh [sbom.json]
set -eu
out=$(realpath -m "${1:-sbom.json}")
cd "$(dirname "$0")/.."
cyclonedx-py requirements deploy/gateway.lock --pyproject pyproject.toml --output-reproducible --of JSON -o "$out"
echo "sbom=$out"
