# The cluster's certificates and kubeconfigs, all in DIR/pki. Sourced by cluster.sh.

pki=$dir/pki

# authority FILE NAME
authority() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj "/CN=$2" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature \
    -keyout "$pki/$1.key" -out "$pki/$1.crt" 2>/dev/null
}

# certificate FILE SUBJECT [NAMES [AUTHORITY]]: for clients, and for servers at NAMES (as in subjectAltName).
certificate() {
  local extensions="keyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage=clientAuth,serverAuth"
  [ -z "${3:-}" ] || extensions+="\nsubjectAltName=$3"
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "$2" -keyout "$pki/$1.key" 2>/dev/null |
    openssl x509 -req -days 30 -CA "$pki/${4:-ca}.crt" -CAkey "$pki/${4:-ca}.key" -set_serial "0x$(openssl rand -hex 8)" \
      -extfile <(printf '%b\n' "$extensions") -out "$pki/$1.crt" 2>/dev/null
}

# kubeconfig FILE: for the user of the certificate of that name.
kubeconfig() {
  cat >"$pki/$1.kubeconfig" <<END
apiVersion: v1
kind: Config
clusters:
- name: $name
  cluster:
    server: https://$(world_ip):6443
    certificate-authority-data: $(base64 -w0 "$pki/ca.crt")
users:
- name: $1
  user:
    client-certificate-data: $(base64 -w0 "$pki/$1.crt")
    client-key-data: $(base64 -w0 "$pki/$1.key")
contexts:
- name: $name
  context: {cluster: $name, user: $1}
current-context: $name
END
}

make_certificates() {
  local node
  (umask 077 && mkdir -p "$pki")
  authority ca "Kubernetes of cluster $name"
  authority front-proxy-ca "Front proxy of cluster $name"
  openssl ecparam -name prime256v1 -genkey -noout -out "$pki/sa.key"
  openssl ec -in "$pki/sa.key" -pubout -out "$pki/sa.pub" 2>/dev/null
  certificate apiserver /CN=kube-apiserver "IP:$(world_ip),IP:10.96.0.1,IP:127.0.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
  certificate front-proxy-client /CN=front-proxy-client "" front-proxy-ca
  certificate apiserver-kubelet-client /O=system:masters/CN=apiserver-kubelet-client
  certificate admin /O=system:masters/CN=admin
  certificate controller-manager /CN=system:kube-controller-manager
  certificate scheduler /CN=system:kube-scheduler
  certificate kube-proxy /CN=system:kube-proxy
  for node in $(node_places); do
    certificate "$node" "/O=system:nodes/CN=system:node:$node" "IP:$(node_ip "$node"),DNS:$node"
    kubeconfig "$node"
  done
  local user
  for user in admin controller-manager scheduler kube-proxy; do kubeconfig "$user"; done
  install -m 600 "$pki/admin.kubeconfig" "$dir/kubeconfig"
}
