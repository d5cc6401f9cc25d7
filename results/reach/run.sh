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
$again --out "$runs/sum-gradients" --finetuned.sum-gradients
$again --out "$runs/frozen-control" --finetuned.freeze-control
# The paper's effect: perception that has not adapted to the end. Sweeps at this smaller budget.
handeye train reach-weak --reuse "$runs/paper" --out "$runs/weak0"
weak="handeye train reach-weak --reuse $runs/weak0"
for k in 1 2; do
  $weak --out "$runs/weak$k" --finetuned.seed $k --naive.seed $k
done
# β as the paper weighs it: nothing bounds what one picture says of the task.
until=()
for beta in 0.2 0.5 0.8 1.0; do
  $weak --out "$runs/weak-beta$beta" --finetuned.beta $beta \
    --finetuned.task-bound 0 --naive.task-bound 0 ${until[@]+"${until[@]}"}
  until=(--until finetuned)
done
# What fine-tunes a weaker Initial, on the good one. paper-warm0 is shipped.
warm() {
  echo "--$1.task-bound 0.03 --$1.steps 3000 --$1.environments 64 --$1.optimiser muon --$1.muon-rate 0.003"
  echo "--$1.learning-rate 0.0006 --$1.rate-end 0.03 --$1.control-rate 0.001"
}
for k in 0 1 2; do
  $again --out "$runs/paper-warm$k" $(warm finetuned) $(warm naive) --finetuned.seed $k --naive.seed $k
done
for share in 0.25 0.5 1.0; do
  $weak --out "$runs/share$share" --adapted.camera-share $share --until control
done
# RW: the first stage is all of it. A step of adaptation at a full rate would undo some of it.
$weak --out "$runs/rw" --sim.camera-share 1 --sim.steps 1000 --adapted.camera-share 1 --adapted.steps 1 \
  --adapted.learning-rate 1e-9 --adapted.muon-rate 0 --until control
for explorer in k-gps epsilon-greedy; do
  $again --out "$runs/$explorer" --control.steps 24000 --control.exploration $explorer --until control
done
handeye report "$runs"/paper "$runs"/paper-tuned* "$runs"/paper-warm* "$runs"/sum-gradients "$runs"/frozen-control "$runs"/weak* \
  "$runs"/share* "$runs"/rw "$runs"/k-gps "$runs"/epsilon-greedy "$runs"/best --out "$runs/report"
