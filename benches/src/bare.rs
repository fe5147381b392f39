//! The floors: the same domain by `virsh create`, the same disk under a plain QEMU.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::instance::{Instance, run, set_mode};
use crate::process::beyond_guest;
use crate::vms::{GUEST_MIB, await_marker, node_dir};

/// What is needed to start the domain of a running VM again without Ferrovirt.
#[derive(Debug)]
pub(crate) struct Bare {
    dir: PathBuf,
    uri: String,
    uuid: String,
    tap: String,
    xml: PathBuf,
    /// The image that the VM's overlay lies on.
    backing: PathBuf,
    overlay: PathBuf,
    machine: String,
    cpu: String,
    accelerator: &'static str,
    user: u32,
}

/// The text between two others.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}

impl Bare {
    /// Takes the XML of a running VM's domain and makes it independent of the VM: identity, files, sockets, tap; everything
    /// else stays.
    pub(crate) fn of(instance: &Instance, uid: &str) -> Result<Self> {
        let uri = instance.libvirt_uri();
        let domain = format!("fv-{uid}");
        let xml = run(Command::new("virsh").args(["-c", &uri, "dumpxml", "--inactive", &domain]))?;
        let uuid = uuid::Uuid::new_v4().to_string();
        let dir = instance.work.join("bare");
        std::fs::create_dir(&dir)?;
        set_mode(&dir, 0o777)?;

        let missing = |what: &str| format!("the domain's XML names no {what}:\n{xml}");
        let old_tap =
            between(&xml, "<target dev='fv", "'").map(|rest| format!("fv{rest}")).with_context(|| missing("tap"))?;
        let overlay = between(&xml, "<source file='", "'").with_context(|| missing("disk"))?.to_string();
        let user = between(&xml, "<label>+", ":").and_then(|u| u.parse().ok()).with_context(|| missing("user"))?;
        let machine = between(&xml, "machine='", "'").with_context(|| missing("machine type"))?.to_string();
        let accelerator = if xml.contains("<domain type='kvm'") { "kvm" } else { "tcg,tb-size=32" };
        let tap = format!("fvb{}", &uuid[..8]);

        let metadata = between(&xml, "<metadata>", "</metadata>").map(|inner| format!("<metadata>{inner}</metadata>"));
        let bare = xml
            .replace(&metadata.with_context(|| missing("metadata"))?, "")
            .replace(&node_dir(instance, uid).canonicalize()?.display().to_string(), &dir.display().to_string())
            .replace(&overlay, &dir.join("disk.qcow2").display().to_string())
            .replace(&instance.run_dir.join("vmis").join(uid).display().to_string(), &dir.display().to_string())
            .replace(&old_tap, &tap)
            .replace(uid, &uuid);
        let file = dir.join("domain.xml");
        std::fs::write(&file, bare)?;

        let info = run(Command::new("qemu-img").args(["info", "-U", "--output=json", &overlay]))?;
        let info: Value = serde_json::from_str(&info)?;
        let name = info["full-backing-filename"].as_str().or(info["backing-filename"].as_str());
        let backing = name.context("the VM's disk has no backing image")?.into();
        let cpu = cpu_of(&domain)?;
        Ok(Self {
            overlay: dir.join("disk.qcow2"),
            dir,
            uri,
            uuid,
            tap,
            xml: file,
            backing,
            machine,
            cpu,
            accelerator,
            user,
        })
    }

    fn fresh_overlay(&self) -> Result<()> {
        let _ = std::fs::remove_file(&self.overlay);
        let format = format_of(&self.backing)?;
        run(Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", &format, "-b"])
            .arg(&self.backing)
            .arg(&self.overlay))?;
        std::os::unix::fs::chown(&self.overlay, Some(self.user), Some(107))?;
        Ok(())
    }

    /// `virsh create`, from the start of virsh to its end.
    pub(crate) fn create(&self) -> Result<Duration> {
        self.fresh_overlay()?;
        let user = self.user.to_string();
        run(Command::new("ip").args(["tuntap", "add", "dev", &self.tap, "mode", "tap", "user", &user, "vnet_hdr"]))?;
        let begin = Instant::now();
        let created = run(Command::new("virsh").args(["-c", &self.uri, "create"]).arg(&self.xml));
        let took = begin.elapsed();
        let destroyed = created.and_then(|_| run(Command::new("virsh").args(["-c", &self.uri, "destroy", &self.uuid])));
        run(Command::new("ip").args(["link", "delete", &self.tap]))?;
        destroyed.map(|_| took)
    }

    /// A plain QEMU until its guest's marker; and its memory beyond the guest's.
    pub(crate) async fn boot(&self) -> Result<(Duration, f64)> {
        self.fresh_overlay()?;
        let serial = self.dir.join("plain-serial");
        let _ = std::fs::remove_file(&serial);
        let begin = Instant::now();
        let mut guest = self.plain(&self.overlay, &serial)?;
        await_marker(&serial).await?;
        let took = begin.elapsed();
        Ok((took, guest.beyond()?))
    }

    /// A plain QEMU with an empty disk: its firmware finds nothing to start.
    pub(crate) fn without_system(&self) -> Result<Guest> {
        let disk = self.dir.join("empty.qcow2");
        run(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&disk).arg("64M"))?;
        self.plain(&disk, &self.dir.join("empty-serial"))
    }

    /// A plain QEMU with the same machine, processor and memory.
    fn plain(&self, disk: &Path, serial: &Path) -> Result<Guest> {
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-machine",
                &self.machine,
                "-accel",
                self.accelerator,
            ])
            .args(["-cpu", &self.cpu, "-m", &GUEST_MIB.to_string(), "-serial"])
            .arg(format!("file:{}", serial.display()))
            .args(["-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n,romfile=", "-drive"])
            .arg(format!("if=virtio,format=qcow2,cache=none,file={}", disk.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Ok(Guest(command.spawn().context("run qemu-system-x86_64")?))
    }
}

/// A plain QEMU; ends with its holder.
#[derive(Debug)]
pub(crate) struct Guest(Child);

impl Guest {
    /// Its resident memory without its guest's, kB.
    pub(crate) fn beyond(&mut self) -> Result<f64> {
        if let Some(status) = self.0.try_wait()? {
            bail!("the plain QEMU ended: {status}");
        }
        beyond_guest(self.0.id(), f64::from(GUEST_MIB) * 1024.0)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn format_of(image: &Path) -> Result<String> {
    let info = run(Command::new("qemu-img").args(["info", "-U", "--output=json"]).arg(image))?;
    let info: Value = serde_json::from_str(&info)?;
    Ok(info["format"].as_str().unwrap_or("raw").to_string())
}

/// The `-cpu` that libvirt gave the domain's QEMU.
fn cpu_of(domain: &str) -> Result<String> {
    let (pid, _) = qemu_of(domain)?;
    let command = std::fs::read(format!("/proc/{pid}/cmdline"))?;
    let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
    let cpu =
        words.windows(2).find(|pair| pair[0] == b"-cpu").map(|pair| String::from_utf8_lossy(pair[1]).into_owned());
    cpu.with_context(|| format!("the QEMU of {domain} has no -cpu"))
}

/// The QEMU of a domain.
pub(crate) fn qemu_of(domain: &str) -> Result<(u32, String)> {
    let found = crate::process::with_argument(&format!("guest={domain},"));
    found.into_iter().find(|(_, name)| name.starts_with("qemu")).with_context(|| format!("domain {domain} has no QEMU"))
}
