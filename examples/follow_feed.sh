#!/bin/bash
# Follows every append of a namespace, with nothing but redis-cli: prints "partition position agent first..last levels".
#
#   follow_feed.sh URL [NAMESPACE] [first]
#
# With `first` it begins at the first append that is left, else at the next one. A message is only the sign to look:
# what is printed is read from the feed, from where the last look ended. So nothing is missed, whatever Pub/Sub loses,
# and after a minute without a message it looks all the same.

url=$1 namespace=${2:-default} start=$3
declare -A seen

# Prints the entries of a partition's feed behind a position, and last, where it ends.
look='
local base = tonumber(redis.call("HGET", KEYS[2], "base") or 0)
local from = tonumber(ARGV[1]) or (ARGV[1] == "first" and base or base + redis.call("LLEN", KEYS[1]))
if from < base then return {"trimmed up to " .. base, tostring(base)} end
local lines, position = {}, from
for _, entry in ipairs(redis.call("LRANGE", KEYS[1], from - base, from - base + 999)) do
  local agent, first, count, levels = unpack(cmsgpack.unpack(entry))
  position = position + 1
  local names = {}
  for level, name in ipairs({"lifecycle", "state", "activity", "trace"}) do
    if math.floor(levels / 2 ^ level) % 2 == 1 then names[#names + 1] = name end
  end
  lines[#lines + 1] = position .. " " .. agent .. " " .. first .. ".." .. (first + count - 1) .. " " .. table.concat(names, ",")
end
lines[#lines + 1] = tostring(position)
return lines'

look_at() {
  local key="duramen:{$namespace:$1}" lines before
  while :; do
    before=${seen[$1]}
    mapfile -t lines < <(redis-cli -u "$url" EVAL_RO "$look" 2 "$key:feed" "$key:heads" "${before:-$start}")
    [[ ${lines[-1]} =~ ^[0-9]+$ ]] || { echo "partition $1: ${lines[*]}" >&2; return; }
    for line in "${lines[@]:0:${#lines[@]}-1}"; do echo "$1 $line"; done
    seen[$1]=${lines[-1]}
    [[ ${#lines[@]} -gt 1 ]] || return
  done
}

partitions=$(redis-cli -u "$url" HGET "duramen:{$namespace}" partitions)
all() { for ((i = 0; i < partitions; i++)); do look_at "$(printf %02d "$i")"; done; }

# Subscribe first, then look: what is committed between the two is found by the look, and once.
coproc hear { exec redis-cli -u "$url" --csv PSUBSCRIBE "duramen:{$namespace:*}:*"; }
trap 'kill "$hear_PID" 2>/dev/null' EXIT
trap 'exit 0' INT TERM
read -r -u "${hear[0]}" _
all
while :; do
  if read -r -t 60 -u "${hear[0]}" message; then
    [[ $message =~ :([0-9]{2})\}: ]] && look_at "${BASH_REMATCH[1]}"
  elif [[ $? -gt 128 ]]; then
    all
  else
    echo "the connection has ended" >&2
    exit 1
  fi
done
