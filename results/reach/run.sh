#!/usr/bin/env bash
# The trainings behind results/reach. Finished stages are taken over from the first run, so each costs what differs.
set -eu
runs=${1:-runs/reach}
paper="handeye train reach-paper"

$paper --out "$runs/paper"
for k in 1 2; do
  $paper --out "$runs/paper-tuned$k" --reuse "$runs/paper" --finetuned.seed $k --naive.seed $k
done
for beta in 0.2 0.5 1.0; do
  $paper --out "$runs/beta$beta" --reuse "$runs/paper" --finetuned.beta $beta
done
for share in 0.25 0.5 1.0; do
  $paper --out "$runs/share$share" --reuse "$runs/paper" --adapted.camera-share $share --until control
done
$paper --out "$runs/rw" --reuse "$runs/paper" --sim.camera-share 1 --sim.steps 4000 --adapted.camera-share 1 --adapted.steps 1 --until control
$paper --out "$runs/epsilon-greedy" --reuse "$runs/paper" --control.exploration epsilon-greedy --until control
$paper --out "$runs/sum-gradients" --reuse "$runs/paper" --finetuned.sum-gradients
$paper --out "$runs/frozen-control" --reuse "$runs/paper" --finetuned.freeze-control
handeye train reach-best --out "$runs/best"
handeye report "$runs"/paper "$runs"/paper-tuned* "$runs"/beta* "$runs"/share* "$runs"/rw "$runs"/epsilon-greedy \
  "$runs"/sum-gradients "$runs"/frozen-control "$runs"/best --out "$runs/report"
