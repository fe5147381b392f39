# The cases; sourced by run.sh, whose words they use. Each runs in a shell of its own under `set -e`.

case_cloudinit_nocloud() {
  in_guest nocloud 'sudo cloud-init status --wait' | shows 'status: done'
  same "host name" nocloud "$(in_guest nocloud hostname)"
  same "user" tester "$(in_guest nocloud 'id -un')"
  same "runcmd's file" "nocloud ran" "$(in_guest nocloud 'sudo cat /root/runcmd')"
  same "source" nocloud "$(in_guest nocloud 'cloud-id')"
  # No network data: cloud-init's own fall-back, DHCP.
  in_guest nocloud 'ip -4 -o addr show scope global' | shows '10\.0\.2\.2/24 .*dynamic'
  in_guest nocloud 'ip route show default' | shows 'via 10\.0\.2\.1 '
}

case_port_forward() {
  local port
  port=$(free_port)
  vc port-forward vmi/nocloud "tcp/$port:22" &
  pid=$!
  trap 'kill "$pid" 2>/dev/null || true' EXIT # runs when the case's shell ends: pid is not local
  eventually 20 "port-forward listens" bash -c "exec 3<>/dev/tcp/127.0.0.1/$port" 2>/dev/null
  # Two connections at once, through a plain ssh.
  for n in 1 2; do
    ssh -n -i "$work/key" -p "$port" -o StrictHostKeyChecking=no -o UserKnownHostsFile="$work/known_hosts2" -o LogLevel=ERROR -o BatchMode=yes \
      tester@127.0.0.1 'hostname; head -c 3000000 /dev/zero' >"$work/forward.$n" &
    eval "ssh$n=$!"
  done
  wait "$ssh1"; wait "$ssh2"
  for n in 1 2; do
    same "size of what came through" 3000008 "$(stat -c %s "$work/forward.$n")"
    same "host name" nocloud "$(head -n 1 "$work/forward.$n" | tr -d '\0')"
  done
}

case_scp() {
  local guest=${1:-nocloud}
  mkdir -p "$work/tree/deep"
  head -c 2500000 /dev/urandom >"$work/tree/deep/block"
  echo 'with a space' >"$work/tree/a file"
  vc scp "${ssh_options[@]}" --recursive "$work/tree" "tester@vmi/$guest:/home/tester/" </dev/null
  same "checksum in the guest" "$(sha256sum <"$work/tree/deep/block")" "$(in_guest "$guest" 'sha256sum </home/tester/tree/deep/block')"
  in_guest "$guest" 'gzip -k tree/deep/block'
  vc scp "${ssh_options[@]}" "tester@vmi/$guest:tree/deep/block.gz" "$work/back.gz" </dev/null
  same "checksum of what came back" "$(sha256sum <"$work/tree/deep/block")" "$(gzip -dc "$work/back.gz" | sha256sum)"
}
case_scp_efi() { case_scp static; }

case_guest_agent() {
  local info version kernel
  eventually 60 "condition AgentConnected" agent_connected
  version=$(in_guest nocloud '. /etc/os-release; echo $VERSION_ID')
  kernel=$(in_guest nocloud 'uname -r')
  eventually 60 "status.guestOSInfo" eval '[ -n "$(field vmi/nocloud "{.status.guestOSInfo.prettyName}")" ]'
  same "guestOSInfo.id" debian "$(field vmi/nocloud '{.status.guestOSInfo.id}')"
  same "guestOSInfo.versionId" "$version" "$(field vmi/nocloud '{.status.guestOSInfo.versionId}')"
  same "guestOSInfo.kernelRelease" "$kernel" "$(field vmi/nocloud '{.status.guestOSInfo.kernelRelease}')"
  same "interfaces[0].interfaceName" "$(in_guest nocloud 'ip route show default' | sed 's/.* dev \([^ ]*\).*/\1/')" \
    "$(field vmi/nocloud '{.status.interfaces[0].interfaceName}')"
  # A guest without processor time answers late; the API gives it nine seconds.
  eventually 60 "guestosinfo" eval 'info=$(vc guestosinfo nocloud)'
  echo "$info"
  grep -q '"hostname": *"nocloud"' <<<"$info"
  grep -q '"prettyName": *"Debian GNU/Linux' <<<"$info"
  grep -q "\"kernelRelease\": *\"$kernel\"" <<<"$info"
  grep -q '"guestAgentVersion": *"[0-9]' <<<"$info"
  vc fslist nocloud | shows '"mountPoint": *"/"'
  vc userlist nocloud | shows '"items"'
}
agent_connected() { [ "$(field vmi/nocloud '{.status.conditions[?(@.type=="AgentConnected")].status}')" = True ]; }

case_readiness() {
  ready() { [ "$(field vm/nocloud '{.status.ready}')" = "$1" ]; }
  eventually 180 "ready, once runcmd has run" ready true
  in_guest nocloud 'sudo mv /root/runcmd /root/moved'
  eventually 180 "not ready without its file" eval '! ready true'
  kc get events | shows 'Readiness probe failed: command ended with exit code 1'
  in_guest nocloud 'sudo mv /root/moved /root/runcmd'
  eventually 180 "ready again" ready true
}

case_acpi_stop() {
  local guest=${1:-nocloud}
  local began=$SECONDS
  vc stop "$guest"
  eventually 240 "the VMI is gone" gone "vmi/$guest"
  say "gone after $((SECONDS - began)) s"
  # Well before the grace period is over: the guest did it, not the node.
  [ $((SECONDS - began)) -lt 230 ]
  eventually 10 "VM Stopped" eval '[ "$(field vm/$guest "{.status.printableStatus}")" = Stopped ]'
  tail -n 5 "$logs/console-$guest.log"
  # systemd got as far as its last target, or the kernel said its last word.
  grep -qaE 'Reached target .*(poweroff\.target|Power.?Off)|reboot: Power down' "$logs/console-$guest.log"
}
case_acpi_stop_efi() { case_acpi_stop static; }

case_configdrive_efi() {
  in_guest configdrive 'sudo cloud-init status --wait' | shows 'status: done'
  same "source" configdrive "$(in_guest configdrive 'cloud-id')"
  same "host name" configdrive "$(in_guest configdrive hostname)"
  in_guest configdrive 'test -d /sys/firmware/efi'
  # Secure Boot is off: not announced, or announced as 0.
  same "Secure Boot" 0 "$(in_guest configdrive 'cat /sys/firmware/efi/efivars/SecureBoot-* 2>/dev/null | od -An -tu1 -j4 | tr -d " " | grep . || echo 0')"
}

case_userdata_secret() {
  same "runcmd's file" "configdrive ran" "$(in_guest configdrive 'sudo cat /root/runcmd')"
  # What the guest got is what the secret holds; the secret itself is not in the VMI.
  same "user data" "$(user_data configdrive)" "$(in_guest configdrive 'sudo cat /var/lib/cloud/instance/user-data.txt')"
  kc get vmi configdrive -o yaml >"$work/vmi.yaml"
  absent grep 'ran > /root/runcmd' "$work/vmi.yaml"
}

case_guest_reboot() {
  local before
  before=$(in_guest configdrive 'cat /proc/sys/kernel/random/boot_id')
  local uid
  uid=$(field vmi/configdrive '{.metadata.uid}')
  in_guest configdrive 'sudo systemctl reboot' || true
  rebooted() { local now; now=$(in_guest configdrive 'cat /proc/sys/kernel/random/boot_id' 2>/dev/null) && [ "$now" != "$before" ]; }
  eventually "$boot_seconds" "another boot id" rebooted
  same "the instance" "$uid" "$(field vmi/configdrive '{.metadata.uid}')"
}

case_guest_poweroff() {
  local uid
  uid=$(field vmi/configdrive '{.metadata.uid}')
  in_guest configdrive 'sudo systemctl poweroff' || true
  eventually 240 "VM Stopped" eval '[ "$(field vm/configdrive "{.status.printableStatus}")" = Stopped ]'
  # It must not come back by itself; watched for longer than any requeue of the controllers.
  local end=$((SECONDS + 20))
  while [ $SECONDS -lt $end ]; do
    case $(field vmi/configdrive '{.metadata.uid} {.status.phase}') in
      '' | "$uid Succeeded") ;;
      *) fail "the guest was started again: $(field vmi/configdrive '{.metadata.uid} {.status.phase}')" ;;
    esac
    sleep 1
  done
  same "printableStatus" Stopped "$(field vm/configdrive '{.status.printableStatus}')"
}

case_network_data_efi() {
  in_guest static 'sudo cloud-init status --wait' | shows 'status: done'
  in_guest static 'test -d /sys/firmware/efi'
  same "source" nocloud "$(in_guest static cloud-id)"
  local address
  address=$(in_guest static 'ip -4 -o addr show dev lan0 scope global')
  echo "$address"
  grep -q '10\.0\.2\.2/24' <<<"$address"
  absent grep dynamic <<<"$address"
  in_guest static 'ip route show default' | shows 'via 10\.0\.2\.1 dev lan0 proto static'
  in_guest static 'resolvectl status lan0' | shows '192\.0\.2\.53'
}

case_configdrive() {
  in_guest drive 'sudo cloud-init status --wait' | shows 'status: done'
  absent in_guest drive 'test -d /sys/firmware/efi'
  same "source" configdrive "$(in_guest drive cloud-id)"
  same "host name" drive "$(in_guest drive hostname)"
  same "runcmd's file" "drive ran" "$(in_guest drive 'sudo cat /root/runcmd')"
}

case_network_data() {
  local address
  address=$(in_guest drive 'ip -4 -o addr show scope global')
  echo "$address"
  grep -q '10\.0\.2\.2/24' <<<"$address"
  absent grep dynamic <<<"$address"
  in_guest drive 'ip route show default' | shows 'via 10\.0\.2\.1 dev .* proto static'
}

case_userdata_base64() {
  same "host name" static "$(in_guest static hostname)"
  same "runcmd's file" "static ran" "$(in_guest static 'sudo cat /root/runcmd')"
}

case_delete_running() {
  local uid
  uid=$(field vmi/drive '{.metadata.uid}')
  [ -n "$uid" ] && [ -e "/run/ferrovirt/$id/vmis/$uid" ]
  kc delete vm drive --timeout=300s
  gone vmi/drive
  eventually 30 "no pod of it" eval '[ -z "$(kc get pods -l vm.kubevirt.io/name=drive -o name)" ]'
  [ ! -e "/run/ferrovirt/$id/vmis/$uid" ]
  find "$data/node" -name "*$uid*" >"$work/left"
  absent grep . "$work/left"
}

case_nothing_left() {
  ferrovirt down --data-dir "$data" --purge
  [ ! -e "$data" ]
  [ ! -e "/run/ferrovirt/$id" ]
  { ip -o link show; nft list tables; cat /proc/self/mountinfo; } >"$work/left"
  absent grep -F "$id" "$work/left"
  absent pgrep -af "$data"
}

run_all() {
  # Two at once: that is what two cores boot in the time of one.
  [[ " cloudinit_nocloud port_forward scp guest_agent readiness acpi_stop " =~ $pattern ]] && start_guest nocloud
  [[ " configdrive_efi userdata_secret guest_reboot guest_poweroff " =~ $pattern ]] && has_ovmf && start_guest configdrive

  run_case cloudinit_nocloud nocloud "ssh" "BIOS, NoCloud: user, host name, key, runcmd, DHCP; virtctl ssh"
  run_case port_forward nocloud "ssh" "virtctl port-forward: two ssh at once"
  run_case scp nocloud "scp" "virtctl scp: a tree in, a file out"
  run_case guest_agent nocloud "ssh agent" "guestosinfo, AgentConnected, guestOSInfo, fslist, userlist"
  run_case readiness nocloud "ssh agent" "ready by a command which the guest agent runs"
  run_case acpi_stop nocloud "ssh" "virtctl stop: clean shutdown within the grace period"
  [[ " network_data_efi userdata_base64 scp_efi acpi_stop_efi " =~ $pattern ]] && has_ovmf && start_guest static
  run_case configdrive_efi configdrive "ssh ovmf" "OVMF, ConfigDrive"
  run_case userdata_secret configdrive "ssh ovmf" "user data from a secret"
  run_case guest_reboot configdrive "ssh ovmf" "reboot in the guest: same instance, another boot"
  run_case guest_poweroff configdrive "ssh ovmf" "poweroff in the guest, RerunOnFailure: stays stopped"
  [[ " configdrive network_data delete_running " =~ $pattern ]] && start_guest drive
  run_case network_data_efi static "ssh ovmf" "OVMF, NoCloud network data: static address, route, resolver"
  run_case userdata_base64 static "ssh ovmf" "user data in base64"
  run_case scp_efi static "scp ovmf" "OVMF, virtctl scp: a tree in, a file out"
  run_case acpi_stop_efi static "ssh ovmf" "OVMF, virtctl stop: clean shutdown within the grace period"
  run_case configdrive drive "ssh" "BIOS, ConfigDrive: user, host name, key, runcmd"
  run_case network_data drive "ssh" "BIOS, ConfigDrive network data: static address, route"
  run_case delete_running drive "ssh" "delete of a running VM"
  run_case nothing_left - "" "down --purge: no file, link, table, mount, process"
}
