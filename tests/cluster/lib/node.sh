# A node: containerd, libvirtd, kubelet, kube-proxy. Sourced by cluster.sh.

# What needs no API server yet.
prepare_node() {
  local node=$1
  write_containerd_config "$node"
  write_libvirt_config "$node"
  write_kubelet_config "$node"
  daemon "$node" containerd containerd --config "$dir/$node/containerd.toml"
  daemon "$node" libvirtd libvirtd
}

start_node() {
  local node=$1
  daemon "$node" kubelet "$kubernetes/kubelet" --config "$dir/$node/kubelet.yaml" --kubeconfig "$pki/$node.kubeconfig" \
    --hostname-override "$node" --node-ip "$(node_ip "$node")"
  daemon "$node" kube-proxy "$kubernetes/kube-proxy" --config "$dir/$node/kube-proxy.yaml" --hostname-override "$node"
}

write_containerd_config() {
  local node=$1 cni=/usr/lib/cni
  [ -d $cni ] || cni=/opt/cni/bin
  # restrict_oom_score_adj: lowering it takes a capability that not every machine gives.
  cat >"$dir/$node/containerd.toml" <<END
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$(image pause)"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$cni"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
END
  # A routed link for each pod: on a bridge, answers between two pods of a node would pass kube-proxy's translation by.
  enter "$node" sh -ec '
    for host in "registry:$1" "$0:$1"; do
      mkdir -p "/etc/containerd/certs.d/$host"
      printf "server = \"http://%s:%s\"\n[host.\"http://%s:%s\"]\n  capabilities = [\"pull\", \"resolve\"]\n" \
        "$0" "$1" "$0" "$1" >"/etc/containerd/certs.d/$host/hosts.toml"
    done
    rm -rf /etc/cni/net.d
    mkdir -p /etc/cni/net.d
    cat >/etc/cni/net.d/10-cluster.conflist' "$(world_ip)" "$registry_port" <<END
{
  "cniVersion": "0.4.0",
  "name": "cluster",
  "plugins": [
    {"type": "ptp", "mtu": 1500, "ipam": {"type": "host-local", "dataDir": "/run/cni", "routes": [{"dst": "0.0.0.0/0"}],
      "ranges": [[{"subnet": "10.244.${node#node}.0/24"}]]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
END
}

# The node's own libvirtd, as a distribution starts it, but for what this machine lacks (see init.sh): no security
# driver, no chown of disks, QEMU's output into files so that no second daemon is in the way of a console.
write_libvirt_config() {
  local node=$1
  enter "$node" sh -ec '
    rm -f /etc/libvirt/qemu/networks/autostart/* /etc/libvirt/storage/autostart/*
    mkdir -p /etc/libvirt /var/log/libvirt/qemu
    cat >/etc/libvirt/libvirtd.conf' <<END
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
host_uuid = "$(printf '%s' "$dir/$node" | sha256sum | sed -E 's/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*/\1-\2-4\3-8\4-\5/')"
log_outputs = "3:stderr"
END
  enter "$node" sh -ec 'cat >/etc/libvirt/qemu.conf' <<END
security_driver = "none"
dynamic_ownership = 0
remember_owner = 0
namespaces = []
stdio_handler = "file"
END
}

write_kubelet_config() {
  local node=$1
  cat >"$dir/$node/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $pki/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: $pki/$node.crt
tlsPrivateKeyFile: $pki/$node.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
resolvConf: /etc/resolv.conf
# Nobody answers there, which pods learn at once; without an address each of them gets a warning event.
clusterDNS: [$(world_ip)]
clusterDomain: cluster.local
serializeImagePulls: false
# The machine's disk and memory are not this cluster's alone.
evictionHard: {memory.available: 50Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
END
  cat >"$dir/$node/kube-proxy.yaml" <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $pki/kube-proxy.kubeconfig}
mode: nftables
clusterCIDR: $pods
conntrack: {maxPerCore: 0, min: 0}
oomScoreAdj: 0
END
}

# image NAME: what pods call a test image.
image() { echo "registry:$registry_port/$1:test"; }

# joined NODE: it is Ready and takes pods: the taint of a new node goes a moment later.
joined() {
  kubectl wait --for condition=Ready "node/$1" --timeout=0s && [ -z "$(kubectl get node "$1" -o jsonpath='{.spec.taints}')" ]
}
