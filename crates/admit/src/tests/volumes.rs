//! Sources of volumes.

use fv_api::config::Engine;

use super::*;

/// The instance with one more volume of this source.
fn with(source: Value) -> Value {
    let mut volume = json!({"name": "more"});
    volume.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
    let mut vmi = instance();
    set(&mut vmi, "/spec/volumes/-", volume);
    vmi
}

/// A write on a cluster where everything that can be is allowed.
fn create() -> Write<'static> {
    let mut write = Write::create(Kind::VirtualMachineInstance);
    write.config.engine = Engine::Kubernetes;
    write.config.host_disk = true;
    write
}

fn messages(write: &Write<'_>, vmi: Value) -> Vec<(String, String)> {
    write.causes(vmi).into_iter().map(|cause| (cause.field, cause.message)).collect()
}

#[test]
fn sources_that_work_are_admitted() {
    for source in [
        json!({"configMap": {"name": "app"}}),
        json!({"configMap": {"name": "app", "optional": true, "volumeLabel": "App_1-2"}}),
        json!({"secret": {"secretName": "keys", "optional": false, "volumeLabel": ""}}),
        json!({"serviceAccount": {"serviceAccountName": "robot"}}),
        json!({"downwardAPI": {"volumeLabel": "about", "fields": [
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
            {"path": "cpus", "resourceFieldRef": {"containerName": "compute", "resource": "limits.cpu"}}]}}),
        json!({"persistentVolumeClaim": {"claimName": "c", "hotpluggable": false}}),
        json!({"ephemeral": {"persistentVolumeClaim": {"claimName": "c", "readOnly": true}}}),
        json!({"hostDisk": {"path": "/srv/a.img", "type": "Disk"}}),
        json!({"hostDisk": {"path": "/srv/vms/a.img", "type": "DiskOrCreate", "capacity": "1Gi", "shared": false}}),
    ] {
        assert_eq!(messages(&create(), with(source.clone())), [], "{source}");
    }
}

#[test]
fn bad_sources_are_refused_with_field_and_reason() {
    for (source, field, message) in [
        (json!({"configMap": {}}), ".configMap.name", "{} is a required field"),
        (json!({"configMap": {"name": ""}}), ".configMap.name", "{} is a required field"),
        (json!({"secret": {}}), ".secret.secretName", "{} is a required field"),
        (json!({"serviceAccount": {}}), ".serviceAccount.serviceAccountName", "{} is a required field"),
        (
            json!({"configMap": {"name": "app", "volumeLabel": "no spaces"}}),
            ".configMap.volumeLabel",
            "{} 'no spaces': use 1 to 16 letters, digits, dashes or underscores",
        ),
        (
            json!({"secret": {"secretName": "a", "volumeLabel": "0123456789abcdefg"}}),
            ".secret.volumeLabel",
            "{} '0123456789abcdefg': use 1 to 16 letters, digits, dashes or underscores",
        ),
        (
            json!({"downwardAPI": {"volumeLabel": "é"}}),
            ".downwardAPI.volumeLabel",
            "{} 'é': use 1 to 16 letters, digits, dashes or underscores",
        ),
        (
            json!({"persistentVolumeClaim": {"claimName": ""}}),
            ".persistentVolumeClaim.claimName",
            "{} is a required field",
        ),
        (
            json!({"persistentVolumeClaim": {"claimName": "c", "hotpluggable": true}}),
            ".persistentVolumeClaim.hotpluggable",
            "{}: true is not supported yet by Ferrovirt: leave it out or set it to false; disks are not hot-plugged",
        ),
        (json!({"ephemeral": {}}), ".ephemeral.persistentVolumeClaim.claimName", "{} is a required field"),
        (json!({"hostDisk": {"path": "", "type": "Disk"}}), ".hostDisk.path", "{} is required for hostDisk volume"),
        (
            json!({"hostDisk": {"path": "/srv/../etc/shadow", "type": "Disk"}}),
            ".hostDisk.path",
            "{} '/srv/../etc/shadow' must be an absolute path to a file without relative components",
        ),
        (
            json!({"hostDisk": {"path": "/srv/vms/", "type": "Disk"}}),
            ".hostDisk.path",
            "{} '/srv/vms/' must be an absolute path to a file without relative components",
        ),
        (
            json!({"hostDisk": {"path": "/srv/a.img", "type": "Directory"}}),
            ".hostDisk.type",
            "{} has invalid value 'Directory', allowed are 'Disk' or 'DiskOrCreate'",
        ),
        (
            json!({"hostDisk": {"path": "/srv/a.img", "type": "Disk", "capacity": "1Gi"}}),
            ".hostDisk.capacity",
            "{} is allowed to pass only with spec.volumes[2].hostDisk.type equal to 'DiskOrCreate'",
        ),
        (
            json!({"hostDisk": {"path": "/srv/a.img", "type": "DiskOrCreate"}}),
            ".hostDisk.capacity",
            "{} greater than 0 is required with spec.volumes[2].hostDisk.type equal to 'DiskOrCreate'",
        ),
        (
            json!({"hostDisk": {"path": "/srv/a.img", "type": "Disk", "shared": true}}),
            ".hostDisk.shared",
            "{}: true is not supported yet by Ferrovirt: leave it out or set it to false; a disk has one user",
        ),
        (
            json!({"dataVolume": {"name": "dv"}}),
            ".dataVolume",
            "{} is not supported yet by Ferrovirt: use a persistentVolumeClaim",
        ),
        (
            json!({"configMap": {"name": "app"}, "secret": {"secretName": "keys"}}),
            "",
            "{} must have exactly one source type set",
        ),
    ] {
        let field = format!("spec.volumes[2]{field}");
        let message = message.replace("{}", &field);
        let found = messages(&create(), with(source.clone()));
        assert_eq!(found, [(field, message)], "{source}");
    }
}

#[test]
fn a_machine_has_one_service_account() {
    let mut vmi = with(json!({"serviceAccount": {"serviceAccountName": "robot"}}));
    set(&mut vmi, "/spec/volumes/-", json!({"name": "other", "serviceAccount": {"serviceAccountName": "robot"}}));
    assert_eq!(
        messages(&create(), vmi),
        [("spec.volumes".to_owned(), "spec.volumes must have max one serviceAccount volume set".to_owned())]
    );
}

#[test]
fn what_the_installation_does_not_have_is_refused() {
    let embedded = Write::create(Kind::VirtualMachineInstance);
    for (source, field, message) in [
        (json!({"hostDisk": {"path": "/srv/a.img", "type": "Disk"}}), "", "HostDisk feature gate is not enabled"),
        (
            json!({"serviceAccount": {"serviceAccountName": "robot"}}),
            ".serviceAccount",
            "spec.volumes[2].serviceAccount: service account \"robot\" is not supported yet by Ferrovirt: the embedded API server issues no tokens; put what the guest signs in with into a secret volume, or run it on Kubernetes",
        ),
    ] {
        let expected = (format!("spec.volumes[2]{field}"), message.to_owned());
        assert_eq!(messages(&embedded, with(source)), [expected]);
    }
}

#[test]
fn a_claim_that_is_only_read_is_on_a_bus_that_can_be() {
    let claim = json!({"persistentVolumeClaim": {"claimName": "c", "readOnly": true}});
    for (disk, refused) in [
        (json!({"disk": {}}), true),
        (json!({"disk": {"bus": "sata"}}), true),
        (json!({"disk": {"bus": "virtio"}}), false),
        (json!({"cdrom": {"bus": "sata"}}), false),
    ] {
        let mut vmi = with(claim.clone());
        let mut device = disk.clone();
        device["name"] = json!("more");
        set(&mut vmi, "/spec/domain/devices/disks/-", device);
        let found = messages(&create(), vmi);
        let expected = ("spec.domain.devices.disks[2].disk.bus", "sata hard-disks do not support read-only.");
        let expected = refused.then(|| (expected.0.to_owned(), expected.1.to_owned()));
        assert_eq!(found, Vec::from_iter(expected), "{disk}");
    }
}
