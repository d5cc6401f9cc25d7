#!/usr/bin/env bash
# The trainings behind results/reach. Finished stages are taken over from the first run, so each costs what differs.
set -eu
runs=${1:-runs/reach}
paper="handeye train reach-paper"

$paper --out "$runs/paper"
handeye train reach-best --out "$runs/best"
again="$paper --reuse $runs/paper"
for k in 1 2; do
  $again --out "$runs/paper-tuned$k" --finetuned.seed $k --naive.seed $k
done
for beta in 0.2 0.5 1.0; do
  $again --out "$runs/beta$beta" --finetuned.beta $beta
done
$again --out "$runs/sum-gradients" --finetuned.sum-gradients
$again --out "$runs/frozen-control" --finetuned.freeze-control
# At an equal budget, smaller than that of the main run.
for share in 0.25 0.5 0.75 1.0; do
  $again --out "$runs/share$share" --adapted.steps 3000 --adapted.camera-share $share --until control
done
$again --out "$runs/rw" --sim.camera-share 1 --sim.steps 3000 --adapted.camera-share 1 --adapted.steps 1 --until control
for explorer in k-gps epsilon-greedy; do
  $again --out "$runs/$explorer" --control.steps 24000 --control.exploration $explorer --until control
done
handeye report "$runs"/paper "$runs"/paper-tuned* "$runs"/beta* "$runs"/sum-gradients "$runs"/frozen-control \
  "$runs"/share* "$runs"/rw "$runs"/k-gps "$runs"/epsilon-greedy "$runs"/best --out "$runs/report"
