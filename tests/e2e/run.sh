#!/usr/bin/env bash
# End-to-end tests with an ordinary Debian guest, whose cloud-init, sshd, systemd and guest agent are not ours.
#
#   tests/e2e/run.sh [PATTERN]        cases whose name matches the extended regular expression; all by default
#
# Runs its own instance beside any other on the machine and removes it whatever happens. As root. Exit status 1: a case failed.
#   FERROVIRT_BIN      folder of ferrovirt, virtctl, virt-launcher (default: target/release)
#   E2E_IMAGE          a disk image to use in place of the one guest/debian/build.sh makes
#   E2E_BOOT_SECONDS   how long a guest may take from start to ssh (default 900: software emulation on a busy machine)
#   E2E_LOGS           where logs go (default: target/e2e)
set -uo pipefail
cd "$(dirname "$0")/../.."
here=$PWD/tests/e2e
bin=$(realpath -m "${FERROVIRT_BIN:-${CARGO_TARGET_DIR:-target}/release}")
logs=$(realpath -m "${E2E_LOGS:-target/e2e}")
boot_seconds=${E2E_BOOT_SECONDS:-900}
pattern=${1:-.}

fatal() { echo "e2e: $*" >&2; exit 2; }
[ "$(id -u)" = 0 ] || fatal "must run as root ('make e2e' does)"
for program in ferrovirt virtctl virt-launcher; do
  [ -x "$bin/$program" ] || fatal "$bin/$program is missing: run 'make e2e', which builds it, or set FERROVIRT_BIN"
done
packages=()
for pair in ssh:openssh-client scp:openssh-client ssh-keygen:openssh-client kubectl:kubernetes-client mmdebstrap:mmdebstrap; do
  command -v "${pair%%:*}" >/dev/null || packages+=("${pair##*:}")
done
if [ ${#packages[@]} -gt 0 ]; then
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null ||
    fatal "could not install ${packages[*]}"
fi

image=${E2E_IMAGE:-target/guest/debian.qcow2}
[ -n "${E2E_IMAGE:-}" ] || guest/debian/build.sh "$image" || fatal "the Debian guest could not be built"
[ -f "$image" ] || fatal "$image is missing"

# --- an instance of our own ----------------------------------------------------------------------------------------------
work=$(mktemp -d /var/tmp/ferrovirt-e2e.XXXXXX)
chmod 755 "$work" # QEMU runs as users of its own and must reach its disks
data=$work/data
id=$(printf %s "$data" | sha256sum | cut -c1-8)
children=()
up=
cleanup() {
  status=$?
  trap '' INT TERM
  for pid in "${children[@]}"; do kill "$pid" 2>/dev/null; done
  [ -z "$up" ] || { cp "$data"/*.log "$logs/" 2>/dev/null; "$bin/ferrovirt" down --data-dir "$data" --purge >"$logs/down.log" 2>&1; }
  rm -rf "$work"
  exit $status
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
rm -rf "$logs"
mkdir -p "$logs"

free_port() {
  local port
  while port=$((20000 + RANDOM % 12000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  echo $port
}
export KUBECONFIG=$work/kubeconfig PATH=$bin:$PATH HOME=$work
up=yes
ferrovirt up --data-dir "$data" --listen "127.0.0.1:$(free_port)" --write-kubeconfig "$KUBECONFIG" --private-libvirt >"$logs/up.log" 2>&1 ||
  { cat "$logs/up.log" >&2; fatal "ferrovirt up failed"; }
ferrovirt image --data-dir "$data" import ferrovirt/debian:latest "$image" >"$logs/import.log" 2>&1 ||
  { cat "$logs/import.log" >&2; fatal "the image was not imported"; }
ssh-keygen -q -t ed25519 -N '' -C e2e -f "$work/key"
public_key=$(cat "$work/key.pub")
kubectl create namespace e2e >/dev/null || fatal "no namespace"

# --- words the cases are written in --------------------------------------------------------------------------------------
kc() { kubectl -n e2e "$@"; }
vc() { virtctl -n e2e "$@"; }
say() { echo "-- $(date +%T) $*"; }
fail() { echo "FAILED: $*"; exit 1; }

# eventually SECONDS WHAT COMMAND…: the command succeeds within the time.
eventually() {
  local seconds=$1 what=$2 end=$((SECONDS + $1))
  shift 2
  until "$@"; do
    [ $SECONDS -lt $end ] || fail "not within $seconds s: $what"
    sleep 1
  done
}
# same WHAT EXPECTED ACTUAL
same() { [ "$2" = "$3" ] || fail "$1: expected '$2', got '$3'"; }
# absent COMMAND…: the command finds nothing.
absent() { ! "$@" || fail "found something: $*"; }
# shows PATTERN: a line of standard input matches. Reads to the end, or its writer would die of a broken pipe.
shows() {
  local text
  text=$(cat)
  echo "$text"
  grep -qE "$1" <<<"$text" || fail "no line like '$1'"
}
field() { kc get "$1" -o "jsonpath=$2" 2>/dev/null; }
gone() { ! kc get "$1" >/dev/null 2>&1; }

ssh_options=(-i "$work/key" --known-hosts "$work/known_hosts" -t "-o StrictHostKeyChecking=no -o LogLevel=ERROR -o BatchMode=yes -o ConnectTimeout=15")
# in_guest NAME COMMAND: as the user the guest's cloud-init made.
in_guest() { vc ssh "tester@vmi/$1" "${ssh_options[@]}" -c "$2" </dev/null; }

# manifest NAME CLOUD-INIT-VOLUME FIRMWARE: a VM with the Debian image and the given source of cloud-init data (YAML, in the volume).
manifest() {
  cat <<YAML
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: $1, namespace: e2e}
spec:
  runStrategy: RerunOnFailure
  template:
    spec:
      terminationGracePeriodSeconds: 240
      readinessProbe: {exec: {command: [test, -e, /root/runcmd]}, periodSeconds: 5, timeoutSeconds: 60}
      domain:
        firmware: {bootloader: $3}
        memory: {guest: 384Mi}
        devices:
          rng: {}
          disks:
          - {name: system, disk: {bus: virtio}}
          - {name: cloudinit, disk: {bus: virtio}}
          interfaces:
          - {name: default, masquerade: {}, macAddress: "02:00:00:e2:e0:01"}
      networks:
      - {name: default, pod: {}}
      volumes:
      - name: system
        containerDisk: {image: "ferrovirt/debian:latest", imagePullPolicy: IfNotPresent}
      - name: cloudinit
$(sed 's/^/        /' <<<"$2")
YAML
}
user_data() {
  cat <<YAML
#cloud-config
hostname: $1
users:
- name: tester
  shell: /bin/bash
  sudo: ALL=(ALL) NOPASSWD:ALL
  ssh_authorized_keys:
  - $public_key
runcmd:
- [sh, -c, "echo $1 ran > /root/runcmd"]
YAML
}
indented() { sed 's/^/    /'; }

# --- the guests: one boot serves several cases; cloud-init, scp and power-off are seen with a BIOS and with OVMF -----------
bios='{bios: {}}' efi='{efi: {secureBoot: false}}'
apply_nocloud() {
  manifest nocloud "cloudInitNoCloud:
  userData: |
$(user_data nocloud | indented)" "$bios"
}
apply_configdrive() {
  kc create secret generic configdrive-data --from-literal=userdata="$(user_data configdrive)" >/dev/null
  manifest configdrive "cloudInitConfigDrive:
  secretRef: {name: configdrive-data}" "$efi"
}
# The addresses of the guest's one interface, as NoCloud takes them.
static_network() {
  cat <<YAML
version: 2
ethernets:
  nic0:
    match: {macaddress: "02:00:00:e2:e0:01"}
    set-name: lan0
    dhcp4: false
    addresses: [10.0.2.2/24]
    routes:
    - {to: 0.0.0.0/0, via: 10.0.2.1}
    nameservers: {addresses: [192.0.2.53], search: [static.example]}
YAML
}
# The same in the format of OpenStack, which is a ConfigDrive's.
openstack_network() {
  cat <<JSON
{"links": [{"id": "nic0", "type": "phy", "ethernet_mac_address": "02:00:00:e2:e0:01"}],
 "networks": [{"id": "lan", "type": "ipv4", "link": "nic0", "ip_address": "10.0.2.2", "netmask": "255.255.255.0",
   "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.2.1"}]}],
 "services": [{"type": "dns", "address": "192.0.2.53"}]}
JSON
}
apply_static() {
  manifest static "cloudInitNoCloud:
  userDataBase64: $(user_data static | base64 -w0)
  networkData: |
$(static_network | indented)" "$efi"
}
apply_drive() {
  manifest drive "cloudInitConfigDrive:
  userData: |
$(user_data drive | indented)
  networkDataBase64: $(openstack_network | base64 -w0)" "$bios"
}
# What the serial console says goes to a file for as long as the pod lives; it is what is left of a guest that stopped.
follow_console() {
  local pod
  for _ in $(seq 120); do
    pod=$(kc get pods -l "vm.kubevirt.io/name=$1" -o 'jsonpath={.items[0].metadata.name}' 2>/dev/null)
    if [ -n "$pod" ] && kc logs "$pod" -c guest-console-log >/dev/null 2>&1; then
      kc logs -f "$pod" -c guest-console-log >"$logs/console-$1.log" 2>"$logs/console-$1.err" &
      children+=($!)
      return
    fi
    sleep 1
  done
  echo "no pod with a console log for $1" >"$logs/console-$1.err"
}
declare -A booted=() usable=() shown=()
start_guest() {
  [ -z "${booted[$1]:-}" ] || return 0
  booted[$1]=$SECONDS
  { "apply_$1" | kc apply -f - && vc start "$1"; } >"$logs/start-$1.log" 2>&1
  follow_console "$1"
}
# Up: its user may log in and cloud-init is done.
await_guest() {
  [ -n "${usable[$1]:-}" ] && return "${usable[$1]}"
  start_guest "$1"
  local end=$((booted[$1] + boot_seconds))
  usable[$1]=1
  until [ "$(field "vmi/$1" '{.status.phase}')" = Running ] && in_guest "$1" true >>"$logs/start-$1.log" 2>&1; do
    # A guest that died will not come up: its last words are on the console.
    if [ $SECONDS -ge $end ] || grep -qaE 'end Kernel panic|Give root password|\(initramfs\)' "$logs/console-$1.log" 2>/dev/null; then
      { kc get vm,vmi,pod -o yaml; kc get events; } >>"$logs/start-$1.log" 2>&1
      return 1
    fi
    sleep 3
  done
  echo "   (guest $1: ssh after $((SECONDS - booted[$1])) s)"
  usable[$1]=0
}

# --- capabilities --------------------------------------------------------------------------------------------------------
has_ssh() { command -v ssh >/dev/null; }
has_scp() { command -v scp >/dev/null; }
has_ovmf() { [ -e /usr/share/OVMF/OVMF_CODE.fd ] || [ -e /usr/share/OVMF/OVMF_CODE_4M.fd ]; }
# Another disk image may have no agent.
has_agent() { [ -z "${E2E_IMAGE:-}" ] || in_guest nocloud 'command -v qemu-ga' >/dev/null 2>&1; }

passed=0 failed=0 skipped=0 skips=()
# run_case NAME GUEST NEEDS DESCRIPTION: runs function case_NAME when guest is up.
run_case() {
  local name=$1 guest=$2 needs=$3 what=$4 missing='' log=$logs/case-$1.log began rc
  [[ $name =~ $pattern ]] || return 0
  for need in $needs; do "has_$need" || missing="$missing $need"; done
  if [ -n "$missing" ]; then
    skipped=$((skipped + 1)) skips+=("$name: needs$missing")
    printf 'SKIP  %-22s %s (needs%s)\n' "$name" "$what" "$missing"
    return 0
  fi
  if [ "$guest" != - ] && ! await_guest "$guest"; then
    failed=$((failed + 1))
    printf 'FAIL  %-22s %s: guest %s did not come up\n' "$name" "$what" "$guest"
    [ -n "${shown[$guest]:-}" ] || tail -n 30 "$logs/console-$guest.log" 2>/dev/null | tr -d '\r' | sed 's/\x1b\[[0-9;?]*[A-Za-z]//g; /start running/d; s/^/      | /'
    shown[$guest]=yes
    return 0
  fi
  began=$SECONDS
  ( set -e; "case_$name" ) >"$log" 2>&1
  rc=$?
  if [ $rc = 0 ]; then
    passed=$((passed + 1))
    printf 'ok    %-22s %s (%s s)\n' "$name" "$what" $((SECONDS - began))
  else
    failed=$((failed + 1))
    printf 'FAIL  %-22s %s (%s s)\n' "$name" "$what" $((SECONDS - began))
    tail -n 15 "$log" | sed 's/^/      | /'
  fi
}
. "$here/cases.sh"

started=$SECONDS
run_all
echo
echo "$passed passed, $failed failed, $skipped skipped in $((SECONDS - started)) s; logs in $logs"
[ ${#skips[@]} -eq 0 ] || printf '  skipped %s\n' "${skips[@]}"
[ $failed -eq 0 ]
