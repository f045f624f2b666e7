#!/usr/bin/env bash
# What only a GPU can prove, in about ten minutes: tests, then a table of ratios. Never run by us so far.
#   python -m pip install ".[test]" && bash tests/gpu/run.sh
# For 8- and 4-bit models also: pip install bitsandbytes. With two GPUs the ranks of `accelerate launch` are tried, too.
set -uo pipefail
cd "$(dirname "$0")/../.."

device=${MIDISTILL_GPU:-cuda}
status=0
python -m pytest -n0 -m gpu tests/gpu -rs || status=1

count=$(python -c 'import torch; print(torch.cuda.device_count())')
if [ "$count" -ge 2 ]; then
  echo "== two ranks"
  work=$(mktemp -d)
  python examples/tiny_model.py "$work/model"
  for ranks in 1 2; do
    accelerate launch --num_processes "$ranks" -m lm_eval --tasks mia_bios --limit 40 --model hf \
      --model_args "pretrained=$work/model,dtype=float32" --batch_size 8 --output_path "$work/$ranks" >"$work/$ranks.log" 2>&1 ||
      { tail -n 20 "$work/$ranks.log"; status=1; }
  done
  python - "$work" <<'PY' || status=1
import json, pathlib, sys
one, two = ({task: row.get("auroc,none") for task, row in json.loads(next(pathlib.Path(sys.argv[1], ranks).rglob("results_*.json")).read_text())["results"].items()} for ranks in "12")
assert all(a is None or abs(a - two[task]) < 1e-6 for task, a in one.items()), (one, two)
print("one rank equals two:", one)
PY
  echo "== a student of two ranks that hold it whole (DDP), or a half each (FSDP2)"
  for way in ddp fsdp2; do # the first one makes the teacher, which is not trained under FSDP
    accelerate launch --config_file "examples/accelerate/$way.yaml" -m midistill_tasks.cli distill bios \
      --set "output=$work/$way" --set "teacher.fine_tune.folder=$work/teacher" --set teacher.fine_tune.epochs=2 \
      --set train.epochs=2 >"$work/$way.log" 2>&1 || { tail -n 20 "$work/$way.log"; status=1; }
  done
  python - "$work" <<'PY' || status=1
import json, pathlib, sys
ddp, fsdp = (json.loads(pathlib.Path(sys.argv[1], way, "midistill.json").read_text())["measured"] for way in ("ddp", "fsdp2"))
name = "student_heldout_byte_perplexity"
assert abs(ddp[name] / fsdp[name] - 1) < 0.01, (ddp, fsdp)
print("DDP equals FSDP2:", ddp[name], fsdp[name])
PY
else
  echo "== two ranks: not run, $count GPU here"
fi

echo "== ratios"
python tests/gpu/table.py --device "$device" "$@" || status=1
exit $status
