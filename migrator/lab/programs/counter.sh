#!/bin/sh
# Counts. The nonce and the number live in the shell's memory; the file only shows them.
#   line in /state/state: NONCE COUNT PID
mkdir -p /state
read -r nonce < /proc/sys/kernel/random/uuid
count=0
while :; do
    count=$((count + 1))
    echo "$nonce $count $$" > /state/state.new
    mv /state/state.new /state/state
    sleep 0.02
done
