//! A guest with disks in volumes of its pod.

use serde_json::json;

use super::machine::{Machine, Terminal};
use crate::support::{NODE, until};
use fv_stream::agent::{NodeAgent, StreamTarget};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guest_reads_settings_and_writes_to_the_images_in_volumes_of_its_pod() {
    let mut machine = Machine::new().await;
    let before = machine.traces();
    let pod = machine.pod("pod-v", "10.88.0.7");
    std::fs::write(machine.volume(&pod, "settings").join("greeting"), "hello from the cluster").unwrap();
    let image = machine.volume(&pod, "host").join("a.img");
    let golden = machine.volume(&pod, "golden").join("disk.img");
    std::fs::write(&golden, vec![b'g'; 1 << 20]).unwrap();

    let handler = machine.start_handler().await;
    let vmi = machine
        .schedule("volumes", &pod, |vmi| {
            for (name, source) in [
                ("settings", json!({"configMap": {"name": "app", "volumeLabel": "settings"}})),
                ("host", json!({"hostDisk": {"path": "/srv/a.img", "type": "DiskOrCreate", "capacity": "16Mi"}})),
                ("golden", json!({"ephemeral": {"persistentVolumeClaim": {"claimName": "golden"}}})),
            ] {
                let mut volume = source;
                volume["name"] = name.into();
                vmi["spec"]["volumes"].as_array_mut().unwrap().push(volume);
                let disk = json!({"name": name, "disk": {"bus": "virtio"}});
                vmi["spec"]["domain"]["devices"]["disks"].as_array_mut().unwrap().push(disk);
            }
        })
        .await;
    machine.reach(&vmi, "Running").await;
    let mut terminal = Terminal::new(handler.handler.open(NODE, &vmi, StreamTarget::Console).await.unwrap());
    terminal.log_in("demo", "ferro").await;
    terminal.run("mkdir -p /m && mount -t iso9660 /dev/vdd /m").await;
    assert_eq!(terminal.run("cat /m/greeting").await, "hello from the cluster");
    terminal.run("echo written by the guest | dd of=/dev/vde bs=512 conv=sync; sync").await;
    assert_eq!(terminal.run("blockdev --getsize64 /dev/vde").await, (16 << 20).to_string());
    assert_eq!(terminal.run("dd if=/dev/vdf bs=4 count=1 2>/dev/null").await, "gggg");
    terminal.run("echo changed | dd of=/dev/vdf bs=512 conv=sync; sync").await;
    assert_eq!(terminal.run("dd if=/dev/vdf bs=7 count=1 2>/dev/null").await, "changed");
    drop(terminal);

    // Started anew, the handler leaves the guest's images where they are.
    handler.end().await;
    let handler = machine.start_handler().await;
    machine.reach(&vmi, "Running").await;
    let qemu = machine.qemu_pid(&vmi).await;
    let command = std::fs::read(format!("/proc/{qemu}/cmdline")).unwrap();
    let command = String::from_utf8_lossy(&command).into_owned();
    assert!(command.contains(&format!("/volumes/{}/host", vmi.uid)) && !command.contains("a.img"), "{command}");
    let content = std::fs::read(&image).unwrap();
    assert!(content.starts_with(b"written by the guest"), "{:?}", &content[..32]);

    machine.delete(&vmi).await;
    machine.condition(&vmi, "DomainDeleted", true).await;
    until("the end of the record", async || machine.records() == 0).await;
    assert_eq!(machine.traces(), before);
    assert_eq!(std::fs::metadata(&image).unwrap().len(), 16 << 20, "the image is the user's");
    assert_eq!(std::fs::read(&golden).unwrap(), vec![b'g'; 1 << 20], "what was written to the overlay went with it");
    handler.end().await;
}
