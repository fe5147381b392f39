# etcd, the API server and its controllers, and the registry, all in `world`. Sourced by cluster.sh.

registry_port=5000

start_registry() {
  cat >"$dir/world/registry.yaml" <<END
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: $dir/world/registry}
  delete: {enabled: true}
http: {addr: "$(world_ip):$registry_port"}
END
  daemon world registry docker-registry serve "$dir/world/registry.yaml"
}

start_api_server() {
  install -d -m 700 "$dir/world/etcd"
  # Nothing in here has to survive a power failure.
  daemon world etcd etcd --data-dir "$dir/world/etcd" --unsafe-no-fsync --log-level warn --quota-backend-bytes 1073741824 \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380
  cp "$here/config/audit.yaml" "$dir/world/audit.yaml"
  daemon world kube-apiserver "$kubernetes/kube-apiserver" \
    --etcd-servers http://127.0.0.1:2379 --bind-address 0.0.0.0 --secure-port 6443 --advertise-address "$(world_ip)" \
    --service-cluster-ip-range "$services" --allow-privileged \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction,PodSecurity --anonymous-auth=true \
    --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" --client-ca-file "$pki/ca.crt" \
    --kubelet-client-certificate "$pki/apiserver-kubelet-client.crt" --kubelet-client-key "$pki/apiserver-kubelet-client.key" \
    --kubelet-certificate-authority "$pki/ca.crt" --kubelet-preferred-address-types InternalIP \
    --service-account-issuer https://kubernetes.default.svc.cluster.local \
    --service-account-key-file "$pki/sa.pub" --service-account-signing-key-file "$pki/sa.key" \
    --requestheader-client-ca-file "$pki/front-proxy-ca.crt" --requestheader-allowed-names front-proxy-client \
    --requestheader-username-headers X-Remote-User --requestheader-group-headers X-Remote-Group \
    --requestheader-extra-headers-prefix X-Remote-Extra- \
    --proxy-client-cert-file "$pki/front-proxy-client.crt" --proxy-client-key-file "$pki/front-proxy-client.key" \
    --enable-aggregator-routing=true \
    --audit-policy-file "$dir/world/audit.yaml" --audit-log-path "$dir/world/log/audit.json" --audit-log-maxsize 1000
}

# They read their settings from the API server, and give up where it has no roles yet.
start_controllers() {
  daemon world kube-controller-manager "$kubernetes/kube-controller-manager" \
    --kubeconfig "$pki/controller-manager.kubeconfig" --authentication-kubeconfig "$pki/controller-manager.kubeconfig" \
    --authorization-kubeconfig "$pki/controller-manager.kubeconfig" --bind-address 127.0.0.1 --leader-elect=false \
    --use-service-account-credentials --root-ca-file "$pki/ca.crt" --service-account-private-key-file "$pki/sa.key" \
    --cluster-signing-cert-file "$pki/ca.crt" --cluster-signing-key-file "$pki/ca.key" \
    --enable-hostpath-provisioner
  daemon world kube-scheduler "$kubernetes/kube-scheduler" \
    --kubeconfig "$pki/scheduler.kubeconfig" --authentication-kubeconfig "$pki/scheduler.kubeconfig" \
    --authorization-kubeconfig "$pki/scheduler.kubeconfig" --bind-address 127.0.0.1 --leader-elect=false
}

api_ready() { curl --silent --fail --max-time 5 --cacert "$pki/ca.crt" "https://$(world_ip):6443/readyz"; }
registry_ready() { curl --silent --fail --max-time 5 "http://$(world_ip):$registry_port/v2/"; }
kubectl() { "$kubernetes/kubectl" --kubeconfig "$dir/kubeconfig" "$@"; }

add_storage_class() { kubectl apply -f "$here/config/storage-class.yaml"; }

# The proxies are a user of their own; its role is among the API server's.
allow_proxies() {
  kubectl create clusterrolebinding kube-proxy --clusterrole system:node-proxier --user system:kube-proxy
}
