#!/usr/bin/env bash
# The steps of the Dockerfile's gateway target in a clean environment, for machines without Docker: the wheel alone, installed
# beside nothing, must find its buildings and bundles, import the service, and make a token. Says how big the environment is.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

"$PYTHON" -m venv "$place/venv"
"$PYTHON" scripts/requirements.py > "$place/requirements.txt"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check -r "$place/requirements.txt"
"$place/venv/bin/pip" wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$place" .
"$place/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "$place"/setwise-*.whl
"$place/venv/bin/pip" check

cd "$place"
export SETWISE_API__TOKEN_FILE="$place/token" OMP_NUM_THREADS=1
for absent in torch onnx pyenergyplus amqtt; do
    if "$place/venv/bin/python" -c "import $absent" 2>/dev/null; then echo "$absent must not be on a gateway" >&2; exit 1; fi
done
"$place/venv/bin/setwise" token --quiet >/dev/null
"$place/venv/bin/python" - <<'CHECK'
import importlib.util
from building.description import BUILDINGS, load_building
print("buildings:", BUILDINGS, "->", load_building("medium_office").facts.title)
if importlib.util.find_spec("service.app"):
    import resource
    import service.app
    print("import service.app: peak memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "MiB")
CHECK
echo "environment_mib=$(du -sm "$place/venv" | cut -f1) wheel_kib=$(du -k "$place"/setwise-*.whl | cut -f1)"
