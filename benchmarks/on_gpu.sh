#!/bin/bash
# What a CUDA machine is lent for, in at most ten minutes and without a network:
#
#   benchmarks/on_gpu.sh [MODEL_FOLDER] [OUT_FOLDER]
#
# GPU tests, kernel and sweep benchmarks, then the resident server on MODEL_FOLDER (SmolLM2 as a folder; default: the
# bundled model) in float32 and bfloat16. Everything is printed and kept in OUT_FOLDER/on_gpu.txt. A folder `wheels`
# in the repository (pip download -d wheels ".[dev,gguf]" with CUDA's torch) is installed into a virtual environment
# first; else the python of the PATH is used. Without CUDA it runs on the processor and says so. SECONDS_IN_ALL (570)
# and STEPS (tests kernels sweep server) can be set.
set -u
cd "$(dirname "$0")/.."
model=${1:-models/demo} out=${2:-${OUT:-on_gpu}}
in_all=${SECONDS_IN_ALL:-570} steps=${STEPS:-tests kernels sweep server}
mkdir -p "$out"
exec > >(tee "$out/on_gpu.txt") 2>&1
failed=0

step() { # step NAME SECONDS COMMAND...: within its own limit and what is left of the whole
  local name=$1 limit=$2 left=$((in_all - SECONDS)) began=$SECONDS
  shift 2
  echo; echo "== $name"
  if [ $left -lt 5 ]; then echo "left out: no time"; failed=1; return; fi
  timeout -k 5 $((limit < left ? limit : left)) "$@"
  local status=$?
  echo "($name: exit code $status, $((SECONDS - began)) s)"
  [ $status -eq 0 ] || { [ "$name" = "GPU tests" ] && [ $status -eq 5 ]; } || failed=1  # 5: all were skipped
}

serve() { # serve DTYPE: first answers of a resident server
  local data port=$((20000 + RANDOM % 20000)) pid status=1 device=cpu
  data=$(mktemp -d)
  [ "$cuda" = True ] && device=cuda
  NULLSCOPE_DATA_DIR=$data nullscope serve --port $port --model "$model" --device $device --dtype "$1" > "$data/log" 2>&1 &
  pid=$!
  python - "$port" "$1" <<'PY'
import json, sys, time, urllib.error, urllib.request

port, dtype = sys.argv[1:]
home = f"http://127.0.0.1:{port}"


def asked(path, body=None):
    request = urllib.request.Request(home + path, None if body is None else json.dumps(body).encode())
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


start = time.monotonic()
while True:
    try:
        (row,) = asked("/api/v1/models")["models"]
        if row["state"] == "loaded":
            break
        if row["state"] == "failed":
            sys.exit(f"{dtype}: {row['error']}")
    except (urllib.error.URLError, ConnectionError, ValueError):
        pass
    if time.monotonic() - start > 150:
        sys.exit(f"{dtype}: not there after 150 s")
    time.sleep(0.5)
print(f"{row['key']} in {dtype} on {row['device']}: resident after {time.monotonic() - start:.1f} s")
text = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of"
for name, body in (("trace", {}), ("effects", {"baseline": "zero"})):
    times = []
    for repeat in range(3):  # another text each time: nothing is known beforehand
        began = time.monotonic()
        asked(f"/api/v1/models/{row['key']}/{name}", {"text": text + " so" * repeat, **body})
        times.append(time.monotonic() - began)
    print(f"{dtype} {name}: first {times[0]:.3f} s, then {min(times[1:]):.3f} s")
PY
  status=$?
  kill -TERM $pid 2>/dev/null
  wait $pid 2>/dev/null
  [ $status -eq 0 ] || tail -n 20 "$data/log"
  rm -rf "$data"
  return $status
}

if [ -d wheels ]; then
  python3 -m venv "$out/venv" && "$out/venv/bin/pip" install -q --no-index --find-links wheels '.[dev,gguf]' || exit 1
  PATH=$PWD/$out/venv/bin:$PATH
fi
export HF_HUB_OFFLINE=1 PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
nvidia-smi -L 2>/dev/null || echo "no NVIDIA driver"
cuda=$(python -c 'import torch; print(torch.cuda.is_available())')
python -c 'import torch; print("torch", torch.__version__, "CUDA", torch.version.cuda)'
if [ "$cuda" != True ]; then
  echo "No CUDA device: everything runs on the processor, kernels in Triton's interpreter."
  export TRITON_INTERPRET=1
fi
export cuda model
export -f serve

for name in $steps; do
  case $name in
    tests) step "GPU tests" 150 python -m pytest -q -p no:cacheprovider tests/gpu ;;
    kernels) step "CUDA kernels" 90 python -m benchmarks.cuda; step "kernels" 120 python -m benchmarks.kernels ;;
    sweep) step "sweep" 120 python -m benchmarks.sweep ;;
    server) for dtype in float32 bfloat16; do step "server, $dtype" 180 bash -c "serve $dtype"; done ;;
    *) echo "no step $name"; failed=1 ;;
  esac
done
echo; echo "$SECONDS s in all"
exit $failed
