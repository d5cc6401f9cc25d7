#!/usr/bin/env bash
# The study of reaching: run.sh [RUNS]. Finished stages are taken over from other runs, so each costs what differs. What
# is finished is kept and what was stopped goes on, so the same command can be given again.
set -eu
runs=${1:-runs/reach}
. "$(dirname "$0")/../study.sh"

again() { finish "$@" --reuse "$runs/paper0"; }
weak() { finish "$1" reach-weak "${@:2}" --reuse "$runs/weak0"; }

# The paper's rates by plain descent, not bounded, a few updates long.
plain=()
# Muon on perception's convolutions alone and Adam on the rest, at rates that fall further.
warm=()
for part in finetuned naive; do
  plain+=(--$part.optimiser sgd --$part.steps 300 --$part.task-bound 0 --$part.environments 16 --$part.target-rate 0.01)
  warm+=(--$part.optimiser muon --$part.learning-rate 0.0006 --$part.rate-end 0.03 --$part.control-rate 0.001)
  warm+=(--$part.target-rate 0.01)
done

finish best reach-best
# The fine-tuning of each kind three times.
finish paper0 reach-paper
again plain0 reach-paper "${plain[@]}"
again warm0 reach-paper "${warm[@]}"
again weak0 reach-weak
for k in 1 2; do
  seed=(--finetuned.seed $k --naive.seed $k)
  again "paper$k" reach-paper "${seed[@]}"
  again "plain$k" reach-paper "${plain[@]}" "${seed[@]}"
  again "warm$k" reach-paper "${warm[@]}" "${seed[@]}"
  weak "weak$k" "${seed[@]}"
done
again sum-gradients reach-paper --finetuned.sum-gradients
again frozen-control reach-paper --finetuned.freeze-control
# Plain descent for longer, with momentum; and every kernel of perception turned at the paper's rates.
again momentum reach-paper --finetuned.optimiser sgd --finetuned.momentum 0.9 --finetuned.steps 2000 \
  --finetuned.control-rate 0.001 --finetuned.target-rate 0.003 --until finetuned
again hot reach-paper --finetuned.muon-rate 0.01 --until finetuned

# Sweeps at the budget of reach-weak, that of shares with 1,000 updates. β of 0.8 is weak0, and 0 its naive.
for beta in 0.2 0.5 1.0; do
  weak "beta$beta" --finetuned.beta $beta --until finetuned
done
for share in 0.25 0.5 1.0; do
  weak "share$share" --adapted.steps 1000 --adapted.camera-share $share --until control
done
# RW: the first stage is all of it. A step of adaptation at a full rate would undo some of it.
weak rw --sim.camera-share 1 --sim.steps 1000 --adapted.camera-share 1 --adapted.steps 1 \
  --adapted.learning-rate 1e-9 --adapted.muon-rate 0 --until control

for explorer in k-gps epsilon-greedy; do
  again $explorer reach-paper --control.steps 24000 --taught-radius-m 0 --control.exploration $explorer --until control
done
handeye report "${all[@]}" --out "$runs-report"
