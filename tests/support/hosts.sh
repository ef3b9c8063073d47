#!/usr/bin/env bash
# Several "hosts" on one Linux machine, to launch a real Ray cluster on:
#   hosts.sh up N DIR | down DIR | kill I DIR | start I DIR | cut I | mend I
#
# Each host has its own network (10.77.0.I on a bridge; this machine is 10.77.0.254), process tree, host name,
# /tmp/ray, /dev/shm and a copy-on-write home without a Ray token, and runs its own sshd. The rest of the file
# system, and so the installed software, is shared. Log in with: ssh -i DIR/id root@10.77.0.I
# `kill` ends all processes of a host at once, as a power cut does; its home stays, and `start` boots it again.
# Needs root and Debian's iproute2, openssh-server and rsync. DIR is an absolute path.
set -euo pipefail
NET=10.77.0

up() {
  local count=$1 dir=$2 i
  mkdir -p "$dir/keys" /run/sshd
  ssh-keygen -q -t ed25519 -N '' -f "$dir/id"
  cp "$dir/id.pub" "$dir/keys/authorized_keys"
  ip link add name lsbr type bridge
  ip addr add $NET.254/24 dev lsbr
  ip link set lsbr up
  for i in $(seq 1 "$count"); do
    ip netns add "lsh$i"
    ip link add "lsv$i" type veth peer name eth0 netns "lsh$i"
    ip link set "lsv$i" master lsbr up
    ip -n "lsh$i" addr add "$NET.$i/24" dev eth0
    ip -n "lsh$i" link set eth0 up
    ip -n "lsh$i" link set lo up
    ip -n "lsh$i" route add default via $NET.254 # leads nowhere, but tells Ray the host's address
    ssh-keygen -q -t ed25519 -N '' -f "$dir/hostkey$i"
    mkdir -p "$dir/upper$i" "$dir/work$i"
    start "$i" "$dir"
  done
  for i in $(seq 1 "$count"); do await_sshd "$i"; done
}

start() {
  local i=$1 dir=$2
  ip netns exec "lsh$i" unshare --pid --mount --uts --fork --mount-proc --kill-child bash -c "
    set -e
    hostname lsh$i
    mkdir -p /tmp/ray /run/sshd
    mount -t overlay overlay -o lowerdir=/root,upperdir=$dir/upper$i,workdir=$dir/work$i /root
    mount -t tmpfs -o mode=755 tmpfs /run/sshd
    mount -t tmpfs -o size=8g tmpfs /dev/shm
    mount -t tmpfs tmpfs /tmp/ray
    test -e /root/.lsh || rm -rf /root/.ray
    touch /root/.lsh
    exec /usr/sbin/sshd -D -e -h $dir/hostkey$i -o PidFile=none -o StrictModes=no -o UsePAM=no \
      -o PermitRootLogin=yes -o AuthorizedKeysFile=$dir/keys/authorized_keys" \
    </dev/null >>"$dir/sshd$i.log" 2>&1 &
  echo $! >"$dir/pid$i"
}

await_sshd() {
  for _ in $(seq 100); do
    (exec 3<>"/dev/tcp/$NET.$1/22") 2>/dev/null && return
    sleep 0.1
  done
  echo "host $1 does not come up" >&2
  exit 1
}

kill_host() { # unshare's --kill-child takes the host's first process with it, and the kernel all the others
  [ -f "$2/pid$1" ] || return 0
  kill -9 "$(cat "$2/pid$1")" 2>/dev/null || true
  rm -f "$2/pid$1"
  while [ -n "$(ip netns pids "lsh$1" 2>/dev/null)" ]; do sleep 0.05; done
}

down() {
  local dir=$1 file name
  for file in "$dir"/pid*; do [ -f "$file" ] && kill_host "${file#"$dir/pid"}" "$dir"; done
  for name in $(ip netns list | awk '/^lsh[0-9]/{print $1}'); do
    ip netns pids "$name" | xargs -r kill -9 2>/dev/null || true
    ip netns del "$name"
    ip link del "${name/lsh/lsv}" 2>/dev/null || true
  done
  ip link del lsbr 2>/dev/null || true
}

case "${1:-}" in
  up) up "$2" "$3" ;;
  down) down "$2" ;;
  kill) kill_host "$2" "$3" ;;
  start) start "$2" "$3" && await_sshd "$2" ;;
  cut) ip link set "lsv$2" down ;;
  mend) ip link set "lsv$2" up ;;
  *) sed -n '2,10p' "$0"; exit 2 ;;
esac
