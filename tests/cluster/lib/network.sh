# The network: a bridge in `world`, the machine and each node at a veth of it. Sourced by cluster.sh.
#
#   198.18.N.1 world (API server, registry)   198.18.N.11, .12 nodes   198.18.N.254 this machine   (N: the first that is free)
#   10.244.1.0/24, 10.244.2.0/24 pods by node   10.96.0.0/16 services

pods=10.244.0.0/16
services=10.96.0.0/16

# The number of this cluster's network, once it has one.
network() { cat "$dir/network" 2>/dev/null; }
world_ip() { echo "198.18.$(network).1"; }
node_ip() { echo "198.18.$(network).$((10 + ${1#node}))"; }

make_network() {
  local number world
  world=$(host_pid world)
  # Making the link is what reserves the number, also between two that start at once.
  for ((number = 0; number < 256; number++)); do
    ! ip -4 route show | grep -q "^198\.18\.$number\." || continue
    ip link add "fvc$number" type veth peer name machine netns "$world" 2>/dev/null && break
  done
  [ "$number" -lt 256 ] || fatal "no network of 198.18.0.0/16 is free"
  echo "$number" >"$dir/network"
  on_network world sh -ec '
    ip link set lo up
    ip link add cluster type bridge
    ip address add "$0/24" dev cluster
    ip link set cluster up
    ip link set machine master cluster up
    echo 1 >/proc/sys/net/ipv4/ip_forward' "$(world_ip)"
  ip address add "198.18.$number.254/24" dev "fvc$number"
  ip link set "fvc$number" up
  name_places world
}

# name_places PLACE: there, all are known by their names. libvirt waits seconds for its own, and migrates by them.
name_places() {
  enter "$1" sh -ec 'cat >>/etc/hosts' < <(
    echo "$(world_ip) world registry"
    for place in $(node_places); do echo "$(node_ip "$place") $place"; done
  )
}

# join_network NODE: its link, and the routes between its pods and everybody else's.
join_network() {
  local node=$1
  on_network world ip link add "$node" type veth peer name eth0 netns "$(host_pid "$node")"
  on_network world ip link set "$node" master cluster up
  on_network world ip route add "10.244.${node#node}.0/24" via "$(node_ip "$node")"
  on_network "$node" sh -ec '
    ip link set lo up
    ip address add "$0/24" dev eth0
    ip link set eth0 up
    ip route add default via "$1"
    echo 1 >/proc/sys/net/ipv4/ip_forward' "$(node_ip "$node")" "$(world_ip)"
  name_places "$node"
  # The world knows the way to every pod; the default route would do, this spares it the detour.
  local other
  for other in $(node_places | grep -vx "$node"); do
    on_network "$node" ip route add "10.244.${other#node}.0/24" via "$(node_ip "$other")"
  done
}

remove_network() { [ ! -e "$dir/network" ] || ip link delete "fvc$(network)" 2>/dev/null || true; }
