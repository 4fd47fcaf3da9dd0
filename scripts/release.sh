#!/bin/sh
# Build the gateway image of a release for amd64 and arm64 and push it, with its bill of materials beside it.
#   scripts/release.sh registry.example/setwise:0.1.0 python:3.13-slim-trixie@sha256:<64 digits>
# Refuses a base that is not pinned by digest, a lock that does not hold, and a tag that is not the version of pyproject.toml.
# The digest: docker buildx imagetools inspect python:3.13-slim-trixie (the index, so that it holds for both machines).
set -eu
[ $# -eq 2 ] || { sed -n '2,5p' "$0"; exit 2; }
tag=$1 base=$2
cd "$(dirname "$0")/.."
wanted=$(sed -n 's/^ARG PYTHON_IMAGE=//p' Dockerfile)
if ! printf '%s' "$base" | grep -Eq "^$wanted@sha256:[0-9a-f]{64}$"; then
    echo "refused: the base '$base' is not $wanted@sha256:<64 digits>. A tag moves; a release must say which image it stands on." >&2
    exit 1
fi
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
if [ "${tag##*:}" != "$version" ]; then
    echo "refused: the tag '$tag' does not end in the version of pyproject.toml, $version." >&2
    exit 1
fi
"${PYTHON:-python3}" scripts/lock.py --check
scripts/sbom.sh "sbom-$version.json"
docker buildx build --platform linux/amd64,linux/arm64 --build-arg "PYTHON_IMAGE=$base" --tag "$tag" --sbom=true --provenance=true --push .
