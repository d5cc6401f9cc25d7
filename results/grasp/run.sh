#!/usr/bin/env bash
# The study of grasping: run.sh [RUNS [RESULTS]]. Ten minutes for most trainings on two cores, six hours for all, one
# after the other. What is finished is kept and what was stopped goes on, so the same command can be given again.
set -eu
runs=${1:-runs/grasp}
results=${2:-results/grasp}
. "$(dirname "$0")/../study.sh"

# study NAME EXPERIMENT OPTION…: train, then 700 grasps of held-out objects.
study() {
  finish "$@"
  cp "$folder/metrics.jsonl" "$results/metrics-$1.jsonl"
  local figures=$results/evaluate-$1-heldout.json
  [ "$figures" -nt "$folder/checkpoints/final.safetensors" ] ||
    handeye evaluate "$folder" --episodes 700 --json "$figures"
}

for seed in 0 1 2; do
  for name in grasp-state grasp-quick grasp grasp-pixels; do
    study "$name-seed$seed" "$name" --seed "$seed"
  done
  study "grasp-quick-144-seed$seed" grasp-quick --run.rounds 144 --seed "$seed"
  study "grasp-quick-190-seed$seed" grasp-pixels --run.rounds 190 --run.updates 45 --seed "$seed"
  # One network, an eighth less.
  study "grasp-560-seed$seed" grasp-pixels --run.rounds 560 --seed "$seed"
done

# Averages that follow as slowly as one network's, and half as many rounds again.
study grasp-384-seed0 grasp --run.rounds 384 --learn.average-rate 0.005

# The paper's camera.
study grasp-shoulder-seed0 grasp-shoulder --seed 0

# What follows has a third of the budget: 190 rounds, 45 updates in each.
quick=(--run.rounds 190 --run.updates 45)

# The two seeds joined, and β of what reads Θ̂. Control's 180 rounds without pictures take as
# long as 54 with them.
modular=(--prior.rounds 180 --run.rounds 136 --run.sight-rounds 18 --run.updates 45)
for beta in 0.2 0.5 0.8; do
  study "aux-beta$beta" grasp-aux "${quick[@]}" --net.beta "$beta"
  study "modular-beta$beta" grasp-modular "${modular[@]}" --net.beta "$beta"
done
for seed in 1 2; do
  study "aux-beta0.5-seed$seed" grasp-aux "${quick[@]}" --net.beta 0.5 --seed "$seed"
  study "modular-beta0.8-seed$seed" grasp-modular "${modular[@]}" --net.beta 0.8 --seed "$seed"
done
study mirror grasp-pixels "${quick[@]}" --labels.mirror
study steps-3 grasp-pixels "${quick[@]}" --labels.steps 3
# Two of a third of the rounds, in the time of one.
study members-short grasp-pixels --members 2 --run.rounds 220
# Two at once, for as long as 190 rounds of one.
study quick-together grasp-pixels --run.updates 45 --members 2 --together --run.rounds 136

# One network whose averages follow as fast as those of two; the same with slow ones, and looking far at first.
study quick-fast-averages-seed2 grasp-pixels --run.rounds 150 --run.updates 45 --learn.average-rate 0.02 --seed 2
study quick-near-seed2 grasp-pixels --run.rounds 150 --run.updates 45 --seed 2
study quick-far-seed2 grasp-pixels --run.rounds 150 --run.updates 45 --run.far-rounds 51 --seed 2
study quick-far-120 grasp-pixels --run.rounds 120 --run.updates 45 --run.far-rounds 41
# Two networks, looking far at first.
study grasp-far-seed0 grasp --run.far-rounds 40
study grasp-far-200-seed0 grasp --run.rounds 200 --run.far-rounds 75
study grasp-far-220-seed1 grasp --run.rounds 220 --run.far-rounds 40 --seed 1
study grasp-far-90 grasp --run.rounds 90 --run.far-rounds 40

# One change each, all asked once.
once() { study "$1" grasp-pixels "${quick[@]}" --no-both-ways "${@:2}"; }
once quick-once
once no-penalty --env.step-reward 0
once no-proprioception --net.no-proprioception
once single-q --labels.no-double
once learned-termination --env.termination learned
once uniform --acting.kind uniform --collecting.kind uniform --labels.maximiser.kind uniform
once levine --labels.objective outcome

# From logs alone, then jointly from that checkpoint.
handeye collect grasp --policy scripted --episodes 8000 --out "$runs-logs/scripted"
handeye collect grasp --policy oracle --episodes 4000 --out "$runs-logs/oracle"
logs=(--logs "$runs-logs/scripted" "$runs-logs/oracle" --run.first-rounds 1)
study logs grasp-pixels "${quick[@]}" "${logs[@]}" --run.no-collect
study joint grasp-pixels "${quick[@]}" "${logs[@]}" --start "$runs/logs" --run.guided-start 0.1
study logs-returns grasp-pixels "${quick[@]}" "${logs[@]}" --run.no-collect --labels.steps 20 --run.rounds 80 --run.evaluate-every 16

# With π_noisy's actions in the logs.
for policy in scripted oracle; do
  handeye collect grasp --policy $policy --noise 0.2 --episodes 5000 --out "$runs-logs/noisy-$policy"
done
logs=(--logs "$runs-logs/noisy-scripted" "$runs-logs/noisy-oracle" --run.first-rounds 1)
study logs-noisy grasp-pixels "${quick[@]}" "${logs[@]}" --run.no-collect
study joint-noisy grasp-pixels "${quick[@]}" "${logs[@]}" --start "$runs/logs-noisy" --run.guided-start 0.1

# The paper's network: that it steps.
[ -d "$runs/grasp-paper-small" ] ||
  handeye train grasp-paper --out "$runs/grasp-paper-small" --run.rounds 9 --run.first-rounds 2 --run.environments 4 \
  --run.updates 10 --run.off-frames 1000 --run.on-frames 1000 --labels.lag 20
cp "$runs/grasp-paper-small/metrics.jsonl" "$results/metrics-grasp-paper-small.jsonl"

handeye evaluate grasp:scripted --episodes 700 --json "$results/evaluate-scripted-700-heldout.json"
handeye evaluate grasp:oracle --episodes 700 --json "$results/evaluate-oracle-700-heldout.json"
handeye report "${all[@]}" --out "$runs-report" --grasps 100

# The peer, where it is installed: see the script.
if python -c "import stable_baselines3"; then
  python benchmarks/peer_sb3.py --minutes 14 > "$results/peer-sb3.json"
  python benchmarks/peer_sb3.py --minutes 14 --given 40000 > "$results/peer-sb3-given.json"
fi
