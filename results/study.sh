# For the scripts of both studies, which set $runs. What is finished is kept and what was stopped goes on.
all=()

# finish NAME EXPERIMENT OPTION…: train to the end in $runs/NAME, which is $folder afterwards and one of ${all[@]}.
finish() {
  local experiment=$2 resume=()
  folder=$runs/$1
  shift 2
  all+=("$folder")
  [ -f "$folder/checkpoints/final.safetensors" ] && return
  [ -f "$folder/config.json" ] && resume=(--resume)
  handeye train "$experiment" --out "$folder" "$@" ${resume[@]+"${resume[@]}"}
}
